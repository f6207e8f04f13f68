/* SPDX-License-Identifier: MIT */
/*
 * A hash join: build a table over one side, look up the other, count by a column. Slots hold row
 * numbers + 1. The first step of each kernel that changes anything is its last: if it
 * faults nothing has happened, and the work-item may run again.
 */

struct meaning {
	uint key;
	uint file;
};

struct join { /* the CPU's pointers */
	ulong meanings;
	ulong senses; /* uint *: keys */
	ulong slots;  /* uint *: 1 << bits of them */
	ulong counts; /* uint * */
	ulong bits;
};

static uint first_slot(uint key, uint bits)
{
	return key * 0x9e3779b1u >> (32 - bits);
}

__kernel void build(UMM_KERNEL_ARGS, ulong join)
{
	__global struct join *j = UMM_POINTER(struct join, join);
	uint row = get_global_id(0), bits, slot, found;
	__global struct meaning *meanings;
	struct umm u;
	ulong slots;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	meanings = UMM_LOAD_POINTER(&u, struct meaning, &j->meanings);
	slots = umm_load(&u, &j->slots);
	bits = umm_load(&u, &j->bits);
	slot = first_slot(umm_load(&u, &meanings[row].key), bits);
	if (umm_faulted(&u))
		return;
	for (;; slot = (slot + 1) & ((1u << bits) - 1)) {
		found = umm_atomic_cmpxchg_uint(&u, slots + 4ul * slot, 0, row + 1);
		if (umm_faulted(&u) || found == 0 || found == row + 1)
			return;
	}
}

__kernel void probe(UMM_KERNEL_ARGS, ulong join)
{
	__global struct join *j = UMM_POINTER(struct join, join);
	__global struct meaning *meanings;
	uint key, bits, slot, row;
	struct umm u;
	ulong slots;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	meanings = UMM_LOAD_POINTER(&u, struct meaning, &j->meanings);
	slots = umm_load(&u, &j->slots);
	bits = umm_load(&u, &j->bits);
	key = umm_load_uint(&u, umm_load(&u, &j->senses) + 4 * get_global_id(0));
	for (slot = first_slot(key, bits);; slot = (slot + 1) & ((1u << bits) - 1)) {
		row = umm_load_uint(&u, slots + 4ul * slot);
		if (!row || umm_faulted(&u))
			return;
		if (umm_load(&u, &meanings[row - 1].key) == key)
			break;
	}
	row = umm_load(&u, &meanings[row - 1].file);
	umm_atomic_add_uint(&u, umm_load(&u, &j->counts) + 4ul * row, 1);
}

__kernel void copied_build(__global const struct meaning *meanings, __global uint *slots, uint bits)
{
	uint row = get_global_id(0), slot = first_slot(meanings[row].key, bits);

	while (atomic_cmpxchg(&slots[slot], 0, row + 1))
		slot = (slot + 1) & ((1u << bits) - 1);
}

__kernel void copied_probe(__global const struct meaning *meanings, __global const uint *senses,
			   __global const uint *slots, __global uint *counts, uint bits)
{
	uint key = senses[get_global_id(0)], slot = first_slot(key, bits);

	while (slots[slot] && meanings[slots[slot] - 1].key != key)
		slot = (slot + 1) & ((1u << bits) - 1);
	if (slots[slot])
		atomic_inc(&counts[meanings[slots[slot] - 1].file]);
}
