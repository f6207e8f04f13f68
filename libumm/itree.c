/* SPDX-License-Identifier: MIT */
/*
 * Interval tree: AVL, ordered by start (equal starts in order of insertion), where
 * every node also knows the greatest end in its subtree. That tells a search which
 * subtrees cannot hold an overlap, so finding the first one, and each next one, is
 * O(log n).
 *
 * Invariants, for every node: subtree heights differ by at most one; height and
 * max_end describe the subtree; parent is the node that links here, NULL at the root.
 *
 * Locks: none; the caller's.
 */
#include "itree.h"

#include <stddef.h>

#include "util.h"

static int height(const struct itree_node *node)
{
	return node ? node->height : 0;
}

static int lean(const struct itree_node *node)
{
	return height(node->left) - height(node->right);
}

/* Recompute what a node knows of its subtree from its children. */
static void update(struct itree_node *node)
{
	node->height = 1 + max(height(node->left), height(node->right));
	node->max_end = node->end;
	if (node->left)
		node->max_end = max(node->max_end, node->left->max_end);
	if (node->right)
		node->max_end = max(node->max_end, node->right->max_end);
}

/* Let whatever links to old (its parent or the root) link to new instead. */
static void relink(struct itree *tree, struct itree_node *old, struct itree_node *new)
{
	struct itree_node *parent = old->parent;

	if (!parent)
		tree->root = new;
	else if (parent->left == old)
		parent->left = new;
	else
		parent->right = new;
	if (new)
		new->parent = parent;
}

/* The right child takes the node's place, the node becomes its left child. */
static struct itree_node *rotate_left(struct itree *tree, struct itree_node *node)
{
	struct itree_node *up = node->right;

	relink(tree, node, up);
	node->right = up->left;
	if (node->right)
		node->right->parent = node;
	up->left = node;
	node->parent = up;
	update(node);
	update(up);
	return up;
}

static struct itree_node *rotate_right(struct itree *tree, struct itree_node *node)
{
	struct itree_node *up = node->left;

	relink(tree, node, up);
	node->left = up->right;
	if (node->left)
		node->left->parent = node;
	up->right = node;
	node->parent = up;
	update(node);
	update(up);
	return up;
}

/* Repair heights, ends and balance from node up to the root. */
static void rebalance(struct itree *tree, struct itree_node *node)
{
	for (; node; node = node->parent) {
		update(node);
		if (lean(node) > 1) {
			if (lean(node->left) < 0)
				rotate_left(tree, node->left);
			node = rotate_right(tree, node);
		} else if (lean(node) < -1) {
			if (lean(node->right) > 0)
				rotate_right(tree, node->right);
			node = rotate_left(tree, node);
		}
	}
}

void itree_insert(struct itree *tree, struct itree_node *node)
{
	struct itree_node **link = &tree->root;
	struct itree_node *parent = NULL;

	UMM_ASSERT(node->start < node->end);
	while (*link) {
		parent = *link;
		link = node->start < parent->start ? &parent->left : &parent->right;
	}
	node->left = NULL;
	node->right = NULL;
	node->parent = parent;
	*link = node;
	rebalance(tree, node);
}

/* Take a node with two children out: its successor moves into its place. */
static void remove_inner(struct itree *tree, struct itree_node *node)
{
	struct itree_node *next = node->right;
	struct itree_node *repair;

	while (next->left)
		next = next->left;
	repair = next;
	if (next != node->right) {
		repair = next->parent;
		relink(tree, next, next->right);
		next->right = node->right;
		next->right->parent = next;
	}
	next->left = node->left;
	next->left->parent = next;
	relink(tree, node, next);
	rebalance(tree, repair);
}

void itree_remove(struct itree *tree, struct itree_node *node)
{
	if (node->left && node->right) {
		remove_inner(tree, node);
	} else {
		relink(tree, node, node->left ? node->left : node->right);
		rebalance(tree, node->parent);
	}
	node->left = NULL;
	node->right = NULL;
	node->parent = NULL;
	node->height = 0;
}

static bool overlaps(const struct itree_node *node, uintptr_t start, uintptr_t end)
{
	return node->start < end && node->end > start;
}

/*
 * The first overlap below node. If something on the left ends after start, then the
 * answer is there or nowhere: that something either overlaps, or begins at or after
 * end, and so does then everything to its right.
 */
static struct itree_node *first_below(struct itree_node *node, uintptr_t start, uintptr_t end)
{
	while (node && node->max_end > start) {
		if (node->left && node->left->max_end > start)
			node = node->left;
		else if (node->start >= end)
			return NULL;
		else if (node->end > start)
			return node;
		else
			node = node->right;
	}
	return NULL;
}

struct itree_node *itree_first(const struct itree *tree, uintptr_t start, uintptr_t end)
{
	if (start >= end)
		return NULL;
	return first_below(tree->root, start, end);
}

struct itree_node *itree_next(const struct itree_node *node, uintptr_t start, uintptr_t end)
{
	struct itree_node *found = first_below(node->right, start, end);
	const struct itree_node *child;

	if (found)
		return found;
	for (;;) {
		child = node;
		node = node->parent;
		if (!node || node->start >= end)
			return NULL;
		/* Everything left of, and including, a node reached from its right is behind us. */
		if (node->right == child)
			continue;
		if (overlaps(node, start, end))
			return (struct itree_node *)(uintptr_t)node;
		found = first_below(node->right, start, end);
		if (found)
			return found;
	}
}
