/* SPDX-License-Identifier: MIT */
/*
 * Interval tree: an AVL tree by start, augmented with the greatest end below
 * each node. Intervals are half open and may overlap. Pure data: no locks, no
 * allocation (nodes are embedded), no system calls.
 */
#ifndef ITREE_H
#define ITREE_H

#include <stdint.h>

struct itree_node {
	struct itree_node *left, *right, *parent;
	uintptr_t start, end; /* start < end; do not change while in a tree */
	uintptr_t max_end;
	int height; /* 0: in no tree; or its tree is about to have it */
};

struct itree {
	struct itree_node *root;
};

void itree_insert(struct itree *tree, struct itree_node *node);
void itree_remove(struct itree *tree, struct itree_node *node);
/* First (lowest start) node that overlaps start..end, or NULL; and the next one after node. */
struct itree_node *itree_first(const struct itree *tree, uintptr_t start, uintptr_t end);
struct itree_node *itree_next(const struct itree_node *node, uintptr_t start, uintptr_t end);

#endif
