/* SPDX-License-Identifier: MIT */
#ifndef REF_TABLE_H
#define REF_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ref_table_node;

/* Where nodes come from, zeroed, and go to. */
struct ref_table_heap {
	void *(*alloc)(size_t len);
	void (*free)(void *p, size_t len);
};

/* From page address to entry. All zero: an empty one, with nodes of the C library's heap. */
struct ref_table {
	struct ref_table_node *root;
	const struct ref_table_heap *heap; /* NULL: the C library's */
};

/*
 * The slot of a page, valid until the table is emptied; 0 is in it until something is entered.
 * NULL where there is none, and none is to be created or can be.
 */
uint64_t *ref_table_slot(struct ref_table *table, uintptr_t addr, bool create);

/* The entry of a page, 0 for none. */
uint64_t ref_table_entry(struct ref_table *table, uintptr_t addr);

/* Forget the entries of start..end. */
void ref_table_clear(struct ref_table *table, uintptr_t start, uintptr_t end);

/* Forget all, and give the nodes back. */
void ref_table_empty(struct ref_table *table);

#endif
