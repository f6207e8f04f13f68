/* SPDX-License-Identifier: MIT */
/*
 * umm_device.cl - what kernels use to reach managed memory; OpenCL C 1.2 or later
 *
 * Put before a program's own source by umm_opencl_build(). An address is that of the
 * CPU, as a ulong. Names that programs may use: UMM_KERNEL_ARGS, UMM_ARGS, struct umm
 * (its fields are private), umm_begin(), umm_faulted(), umm_load_TYPE() and
 * umm_store_TYPE() for every scalar TYPE, umm_load_ptr(), umm_store_ptr().
 *
 * The page table: a directory, which is an open hash table from a 2 MiB block to the
 * number of its leaf, and leaves of 512 entries. An entry is
 *
 *	bit 0 valid, bit 1 writable, bits 2-3 pool, bits 4-31 frame within the pool.
 *
 * Nobody writes the table while a kernel runs. A work-item keeps its last translations,
 * two to read and one to write, so that most accesses cost one comparison. The comparison
 * includes the low address bits, so that a misaligned address never matches.
 *
 * A miss is reported once for each page and round: a small table of those seen keeps
 * most duplicates out. The work-item writes the round's number into its state word,
 * which is how the host and the next round know that it has to run again.
 */

#ifndef UMM_POOLS
#define UMM_POOLS 4
#endif

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* Shared with the host: round.h and round.c have the same numbers. */
#define UMM_CONTROL_FAULTS 0  /* words of the control buffer: faults reported, */
#define UMM_CONTROL_ITEMS  1  /* work-items that faulted, each counted once a round; */
#define UMM_CONTROL_LOG	   16 /* four words each: address low, high, flags, work-item; */
#define UMM_SEEN_BITS	   12 /* after them the table of pages seen */
#define UMM_FAULT_WRITE	   1u
#define UMM_FAULT_ALIGN	   2u
#define UMM_FAULT_POOLS	   4u

#define UMM_KERNEL_ARGS                                                                  \
	__global uchar *umm_pool0, __global uchar *umm_pool1, __global uchar *umm_pool2, \
		__global uchar *umm_pool3, __global const uint2 *umm_directory,          \
		__global const uint *umm_leaves, __global uint *umm_used,                \
		volatile __global uint *umm_control, __global uint *umm_state, uint8 umm_round
#define UMM_ARGS                                                                         \
	umm_pool0, umm_pool1, umm_pool2, umm_pool3, umm_directory, umm_leaves, umm_used, \
		umm_control, umm_state, umm_round

/* Fields of umm_round. */
#define UMM_EPOCH(r)	(r).s0 /* number of this round, growing from launch to launch */
#define UMM_FIRST(r)	(r).s1 /* number of the first round of this launch */
#define UMM_LO(r)	(r).s2 /* later rounds run only work-items from here */
#define UMM_HI(r)	(r).s3 /* to here */
#define UMM_SHIFT(r)	(r).s4 /* 32 - log2 of the directory's slots */
#define UMM_CAPACITY(r) (r).s5 /* faults that the control buffer holds */
#define UMM_NPOOLS(r)	(r).s6

#define UMM_PAGE_MASK 0xfffffffffffff000ul
#define UMM_NO_PAGE   0xfffffffffffffffful /* no masked address equals it */

struct umm {
	__global uchar *read_base, *read_base2, *write_base;
	ulong read_page, read_page2, write_page;
	uint item;
	uint faulted;
	__global uchar *pool0, *pool1, *pool2, *pool3;
	__global const uint2 *directory;
	__global const uint *leaves;
	__global uint *used, *state;
	volatile __global uint *control;
	uint8 round;
};

/*
 * What follows up to umm_begin() is the prelude's own. The two that are not inlined get what
 * they need by value, so that struct umm can live in registers.
 */
#define UMM_INLINE static inline __attribute__((always_inline))
#define UMM_CALL   static __attribute__((noinline))

/* Is this page and kind of access reported in this round already? May say no wrongly. */
UMM_INLINE int umm_seen(volatile __global uint *control, uint8 round, ulong addr, uint flags)
{
	volatile __global uint *seen = control + UMM_CONTROL_LOG + 4 * (size_t)UMM_CAPACITY(round);
	/* Multiplying by an odd number loses nothing: slot and tag name the page exactly. */
	ulong key = (addr >> 12 << 1 | (flags & UMM_FAULT_WRITE)) * 0x9e3779b97f4a7c15ul;
	uint slot = (uint)(key >> (36 - UMM_SEEN_BITS)) & ((1u << UMM_SEEN_BITS) - 1);
	uint tag = ((uint)key & 0xffffffu) | UMM_EPOCH(round) << 24;

	return atomic_xchg(&seen[slot], tag) == tag;
}

UMM_CALL void umm_report(volatile __global uint *control, __global uint *state, uint8 round,
			 uint item, ulong addr, uint flags)
{
	volatile __global uint *entry;
	uint i;

	if (state[item] != UMM_EPOCH(round)) {
		state[item] = UMM_EPOCH(round);
		atomic_inc(&control[UMM_CONTROL_ITEMS]);
	}
	if (umm_seen(control, round, addr, flags))
		return;
	i = atomic_inc(&control[UMM_CONTROL_FAULTS]);
	if (i >= UMM_CAPACITY(round))
		return;
	entry = control + UMM_CONTROL_LOG + 4 * (size_t)i;
	entry[0] = (uint)addr;
	entry[1] = (uint)(addr >> 32);
	entry[2] = flags;
	entry[3] = item;
}

/* The entry of the address's page; 0: none. */
UMM_CALL uint umm_lookup(__global const uint2 *directory, __global const uint *leaves,
			 __global uint *used, uint8 round, ulong addr)
{
	ulong block = addr >> 21;
	uint slot = (uint)block * 0x9e3779b1u >> UMM_SHIFT(round);
	uint2 way = directory[slot];

	while (way.x != 0 && (ulong)way.x != block + 1) {
		slot = (slot + 1) & (0xffffffffu >> UMM_SHIFT(round));
		way = directory[slot];
	}
	if (way.x == 0)
		return 0;
	if (used[way.y] != UMM_EPOCH(round))
		used[way.y] = UMM_EPOCH(round);
	return leaves[((size_t)way.y << 9) + ((uint)(addr >> 12) & 511)];
}

UMM_INLINE int umm_fault(struct umm *u, ulong addr, uint flags)
{
	u->faulted = 1;
	u->read_page = u->read_page2 = u->write_page = UMM_NO_PAGE;
	umm_report(u->control, u->state, u->round, u->item, addr, flags);
	return 0;
}

UMM_INLINE __global uchar *umm_frame(struct umm *u, uint entry)
{
#if UMM_POOLS == 1
	return u->pool0 + ((size_t)(entry >> 4) << 12);
#else
	uint pool = (entry >> 2) & 3;

	return (pool < 2 ? (pool == 0 ? u->pool0 : u->pool1) : (pool == 2 ? u->pool2 : u->pool3)) +
	       ((size_t)(entry >> 4) << 12);
#endif
}

/* Translate; 0: the work-item is faulted. low: address bits that must be 0. */
UMM_INLINE int umm_read_walk(struct umm *u, ulong addr, uint low)
{
	uint entry;

	if (u->faulted)
		return 0;
	if (addr & low)
		return umm_fault(u, addr, UMM_FAULT_ALIGN);
	entry = umm_lookup(u->directory, u->leaves, u->used, u->round, addr);
	if (!(entry & 1))
		return umm_fault(u, addr, 0);
	u->read_page2 = u->read_page;
	u->read_base2 = u->read_base;
	u->read_page = addr & UMM_PAGE_MASK;
	u->read_base = umm_frame(u, entry);
	return 1;
}

UMM_INLINE int umm_write_walk(struct umm *u, ulong addr, uint low)
{
	uint entry;

	if (u->faulted)
		return 0;
	if (addr & low)
		return umm_fault(u, addr, UMM_FAULT_ALIGN | UMM_FAULT_WRITE);
	entry = umm_lookup(u->directory, u->leaves, u->used, u->round, addr);
	if ((entry & 3) != 3)
		return umm_fault(u, addr, UMM_FAULT_WRITE);
	u->write_page = addr & UMM_PAGE_MASK;
	u->write_base = umm_frame(u, entry);
	return 1;
}

/* Not the page read last: perhaps the one before it. 0: the work-item is faulted. */
UMM_INLINE int umm_read_other(struct umm *u, ulong addr, uint low)
{
	__global uchar *base = u->read_base2;
	ulong page = u->read_page2;

	if ((addr & (UMM_PAGE_MASK | low)) != page)
		return umm_read_walk(u, addr, low);
	u->read_page2 = u->read_page;
	u->read_base2 = u->read_base;
	u->read_page = page;
	u->read_base = base;
	return 1;
}

/**
 * umm_begin() - start, or start again; must be the first call
 *
 * From then on the struct may be copied; a miss through one copy leaves the others as they are,
 * and the work-item is run again whichever of them missed.
 *
 * Return: 0: this work-item has nothing to do (any more): return from the kernel.
 */
UMM_INLINE int umm_begin(struct umm *u, UMM_KERNEL_ARGS)
{
	size_t x = get_global_id(0) - get_global_offset(0);
	size_t y = get_global_id(1) - get_global_offset(1);
	size_t z = get_global_id(2) - get_global_offset(2);

	u->item = (uint)((z * get_global_size(1) + y) * get_global_size(0) + x);
	if (UMM_EPOCH(umm_round) != UMM_FIRST(umm_round)) {
		if (u->item < UMM_LO(umm_round) || u->item >= UMM_HI(umm_round) ||
		    umm_state[u->item] < UMM_FIRST(umm_round))
			return 0;
		umm_state[u->item] = 0;
	}
	u->read_base = u->read_base2 = u->write_base = umm_pool0;
	u->read_page = u->read_page2 = u->write_page = UMM_NO_PAGE;
	u->faulted = 0;
	u->pool0 = umm_pool0;
	u->pool1 = umm_pool1;
	u->pool2 = umm_pool2;
	u->pool3 = umm_pool3;
	u->directory = umm_directory;
	u->leaves = umm_leaves;
	u->used = umm_used;
	u->state = umm_state;
	u->control = umm_control;
	u->round = umm_round;
	if (UMM_NPOOLS(umm_round) > UMM_POOLS) {
		umm_fault(u, 0, UMM_FAULT_POOLS);
		return 0;
	}
	return 1;
}

/** umm_faulted() - has this work-item missed a page? What it loaded since is 0. */
UMM_INLINE int umm_faulted(const struct umm *u)
{
	return u->faulted != 0;
}

/*
 * umm_load_NAME(u, addr) and umm_store_NAME(u, addr, value): at addr, which must be a
 * multiple of the type's size.
 */
#define UMM_DEFINE_ACCESS(name, type)                                                  \
	UMM_INLINE type umm_load_##name(struct umm *u, ulong addr)                     \
	{                                                                              \
		if ((addr & (UMM_PAGE_MASK | (sizeof(type) - 1))) != u->read_page &&   \
		    !umm_read_other(u, addr, sizeof(type) - 1))                        \
			return 0;                                                      \
		return *(__global const type *)(u->read_base + ((size_t)addr & 4095)); \
	}                                                                              \
	UMM_INLINE void umm_store_##name(struct umm *u, ulong addr, type value)        \
	{                                                                              \
		if ((addr & (UMM_PAGE_MASK | (sizeof(type) - 1))) != u->write_page &&  \
		    !umm_write_walk(u, addr, sizeof(type) - 1))                        \
			return;                                                        \
		*(__global type *)(u->write_base + ((size_t)addr & 4095)) = value;     \
	}

UMM_DEFINE_ACCESS(char, char)
UMM_DEFINE_ACCESS(uchar, uchar)
UMM_DEFINE_ACCESS(short, short)
UMM_DEFINE_ACCESS(ushort, ushort)
UMM_DEFINE_ACCESS(int, int)
UMM_DEFINE_ACCESS(uint, uint)
UMM_DEFINE_ACCESS(long, long)
UMM_DEFINE_ACCESS(ulong, ulong)
UMM_DEFINE_ACCESS(float, float)
UMM_DEFINE_ACCESS(ptr, ulong)
#ifdef cl_khr_fp64
UMM_DEFINE_ACCESS(double, double)
#endif
