/* SPDX-License-Identifier: MIT */
/*
 * The interval tree: by hand where an answer can be seen at a glance, and at random,
 * with a fixed seed, against an array that is searched from end to end. After every
 * random change the tree's own invariants are checked node by node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "itree.h"
#include "util.h"

#define NR_NODES 400
#define NR_STEPS 20000
#define SEED	 0x756d6d31u

struct item {
	struct itree_node node;
	unsigned born; /* order of insertion, decides among equal starts */
	bool in_tree;
};

static struct item items[NR_NODES];

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

static struct item *item_of(struct itree_node *node)
{
	return container_of(node, struct item, node);
}

/* Check everything the tree promises below node; returns the number of nodes. */
static size_t check_subtree(const struct itree_node *node, const struct itree_node *parent)
{
	int left, right;
	uintptr_t max_end;
	size_t count;

	if (!node)
		return 0;
	assert_ptr_equal(node->parent, parent);
	count = 1 + check_subtree(node->left, node) + check_subtree(node->right, node);
	left = node->left ? node->left->height : 0;
	right = node->right ? node->right->height : 0;
	assert_in_range(left - right + 1, 0, 2);
	assert_int_equal(node->height, 1 + max(left, right));
	max_end = node->end;
	if (node->left) {
		assert_true(node->left->start <= node->start);
		max_end = max(max_end, node->left->max_end);
	}
	if (node->right) {
		assert_true(node->right->start >= node->start);
		max_end = max(max_end, node->right->max_end);
	}
	assert_int_equal(node->max_end, max_end);
	return count;
}

/* The overlap of start..end that comes after `after` in the tree's order; NULL: the first. */
static struct item *brute_next(const struct item *after, uintptr_t start, uintptr_t end)
{
	struct item *best = NULL;

	for (size_t i = 0; i < NR_NODES; i++) {
		struct item *item = &items[i];

		if (!item->in_tree || item->node.start >= end || item->node.end <= start)
			continue;
		if (after && (item->node.start < after->node.start ||
			      (item->node.start == after->node.start && item->born <= after->born)))
			continue;
		if (!best || item->node.start < best->node.start ||
		    (item->node.start == best->node.start && item->born < best->born))
			best = item;
	}
	return best;
}

static void check_query(const struct itree *tree, uintptr_t start, uintptr_t end)
{
	struct itree_node *node = itree_first(tree, start, end);
	struct item *want = brute_next(NULL, start, end);

	while (want) {
		assert_ptr_equal(node, &want->node);
		node = itree_next(node, start, end);
		want = brute_next(want, start, end);
	}
	assert_null(node);
}

static void empty_tree_has_no_overlap(void **state)
{
	struct itree tree = { 0 };

	(void)state;
	assert_null(itree_first(&tree, 0, UINTPTR_MAX));
}

static void intervals_are_half_open(void **state)
{
	struct itree tree = { 0 };
	struct itree_node node = { .start = 10, .end = 20 };

	(void)state;
	itree_insert(&tree, &node);
	assert_null(itree_first(&tree, 0, 10));
	assert_ptr_equal(itree_first(&tree, 0, 11), &node);
	assert_ptr_equal(itree_first(&tree, 19, 20), &node);
	assert_null(itree_first(&tree, 20, 30));
	assert_null(itree_next(&node, 0, UINTPTR_MAX));
}

static void empty_query_finds_nothing(void **state)
{
	struct itree tree = { 0 };
	struct itree_node node = { .start = 10, .end = 20 };

	(void)state;
	itree_insert(&tree, &node);
	assert_null(itree_first(&tree, 15, 15));
	assert_null(itree_first(&tree, 18, 12));
}

static void equal_intervals_come_in_order_of_insertion(void **state)
{
	struct itree tree = { 0 };
	struct itree_node nodes[8];
	struct itree_node *node;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		nodes[i] = (struct itree_node){ .start = 4096, .end = 8192 };
		itree_insert(&tree, &nodes[i]);
	}
	node = itree_first(&tree, 5000, 5001);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		assert_ptr_equal(node, &nodes[i]);
		node = itree_next(node, 5000, 5001);
	}
	assert_null(node);
}

static void long_interval_is_found_far_from_its_start(void **state)
{
	struct itree tree = { 0 };
	struct itree_node all = { .start = 0, .end = UINTPTR_MAX };
	struct itree_node nodes[64];
	struct itree_node *node;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		nodes[i] = (struct itree_node){ .start = 100 * (i + 1), .end = 100 * (i + 1) + 10 };
		itree_insert(&tree, &nodes[i]);
	}
	itree_insert(&tree, &all);
	assert_ptr_equal(itree_first(&tree, 6350, 6360), &all);
	node = itree_first(&tree, 3205, 3206);
	assert_ptr_equal(node, &all);
	node = itree_next(node, 3205, 3206);
	assert_ptr_equal(node, &nodes[31]);
	assert_null(itree_next(node, 3205, 3206));
	itree_remove(&tree, &all);
	assert_null(itree_first(&tree, 6350, 6360));
	assert_int_equal(check_subtree(tree.root, NULL), 64);
}

static void sorted_insertion_stays_balanced(void **state)
{
	struct itree tree = { 0 };

	(void)state;
	for (size_t i = 0; i < NR_NODES; i++) {
		items[i].node = (struct itree_node){ .start = i, .end = i + 1 };
		itree_insert(&tree, &items[i].node);
	}
	assert_int_equal(check_subtree(tree.root, NULL), NR_NODES);
	/* 1.44 log2(n): what an AVL tree can come to at worst. */
	assert_in_range(tree.root->height, 9, 12);
	for (size_t i = 0; i < NR_NODES; i++) {
		assert_ptr_equal(itree_first(&tree, 0, UINTPTR_MAX), &items[i].node);
		itree_remove(&tree, &items[i].node);
		assert_int_equal(check_subtree(tree.root, NULL), NR_NODES - 1 - i);
	}
	assert_null(tree.root);
}

static void random_changes_match_brute_force(void **state)
{
	struct itree tree = { 0 };
	uint32_t seed = SEED;
	size_t count = 0;

	(void)state;
	memset(items, 0, sizeof(items));
	for (unsigned step = 0; step < NR_STEPS; step++) {
		struct item *item = &items[random_next(&seed) % NR_NODES];
		uintptr_t start = random_next(&seed) % 1000;
		/* Mostly short, now and then long. */
		uintptr_t len = 1 + random_next(&seed) % (step % 16 ? 8 : 500);

		if (item->in_tree) {
			itree_remove(&tree, &item->node);
			item->in_tree = false;
			count--;
		} else {
			item->node.start = start;
			item->node.end = start + len;
			item->born = step;
			item->in_tree = true;
			itree_insert(&tree, &item->node);
			count++;
		}
		assert_int_equal(check_subtree(tree.root, NULL), count);
		start = random_next(&seed) % 1100;
		if (step % 8 == 0)
			check_query(&tree, start, start + 1 + random_next(&seed) % 60);
	}
	check_query(&tree, 0, UINTPTR_MAX);
	while (tree.root) {
		item_of(tree.root)->in_tree = false;
		itree_remove(&tree, tree.root);
		assert_int_equal(check_subtree(tree.root, NULL), --count);
	}
	assert_int_equal(count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_tree_has_no_overlap),
		cmocka_unit_test(intervals_are_half_open),
		cmocka_unit_test(empty_query_finds_nothing),
		cmocka_unit_test(equal_intervals_come_in_order_of_insertion),
		cmocka_unit_test(long_interval_is_found_far_from_its_start),
		cmocka_unit_test(sorted_insertion_stays_balanced),
		cmocka_unit_test(random_changes_match_brute_force),
	};

	return cmocka_run_group_tests_name("itree", tests, NULL, NULL);
}
