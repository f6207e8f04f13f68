/* SPDX-License-Identifier: MIT */
/*
 * umm_device.cl - what kernels use to reach managed memory; OpenCL C 1.2 or later
 *
 * Put before a program's own source by umm_opencl_build(). An address is that of the
 * CPU, as a ulong. Names that programs may use: UMM_KERNEL_ARGS, UMM_ARGS, struct umm
 * (its fields are private), umm_begin(), umm_faulted(); for every scalar and vector TYPE
 * umm_load_TYPE(), umm_store_TYPE() and, for vectors, umm_vload_TYPE(), umm_vstore_TYPE();
 * halves as floats, umm_load_half() and so on;
 * umm_load_ptr(), umm_store_ptr(); umm_load(), umm_store(), UMM_POINTER(), UMM_LOAD_POINTER();
 * umm_span_load(), umm_span_store(); umm_prepare_load(), umm_prepare_store(); umm_atomic_OP_TYPE().
 *
 * The page table: leaves of 512 entries, one for a 2 MiB block. Those of a window of the address
 * space, where most memory is, are numbered as its blocks are, so that its entries are one array;
 * the others are found in a directory, an open hash table from a block to the number of its
 * leaf, which has all of them. An entry is
 *
 *	bit 0 valid, bit 1 writable, bits 2-3 pool, bits 4-31 frame within the pool.
 *
 * While a kernel runs no entry changes or goes. A work-item keeps its last translations,
 * two to read (or one, see UMM_CACHED_PAGES) and one to write, so that most accesses cost one
 * comparison. The comparison includes the low address bits, so that a misaligned address never
 * matches.
 *
 * A miss is reported once for each page and round: a small table of those seen keeps
 * most duplicates out. The work-item writes the round's number into its state word,
 * which is how the host and the next round know that it has to run again.
 *
 * Where the host serves the kernel while it runs, the work-item waits instead until the page has
 * an entry. It looks at a word besides, which is 0 from when nobody is to wait any longer: then it
 * is faulted after all. The word is also made 0 by a work-item for which nothing happens for long.
 */

#ifndef UMM_POOLS
#define UMM_POOLS 4
#endif

/* Pages that a work-item keeps the translation of, for loads: 2 or 1. */
#ifndef UMM_CACHED_PAGES
#define UMM_CACHED_PAGES 2
#endif

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* Shared with the host: round.h and round.c have the same numbers. */
#define UMM_CONTROL_FAULTS 0  /* words of the control buffer: faults reported, */
#define UMM_CONTROL_ITEMS  1  /* work-items that faulted, each counted once a round; */
#define UMM_CONTROL_WAIT   2  /* so often who waits looks; 0: nobody waits; */
#define UMM_CONTROL_BEAT   3  /* other numbers as long as the host serves; */
#define UMM_CONTROL_WAITED 4  /* waits that got a page; */
#define UMM_CONTROL_ZEROS  32 /* faulted work-items load them: a vector of the largest type; */
#define UMM_CONTROL_LOG	   64 /* four words each: address low, high, flags, work-item; */
#define UMM_SEEN_BITS	   12 /* after them the table of pages seen */
#define UMM_FAULT_WRITE	   1u
#define UMM_FAULT_ALIGN	   2u
#define UMM_FAULT_POOLS	   4u
#define UMM_FAULT_READY	   8u /* written last */

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
#define UMM_NPOOLS(r)	((r).s6 & 7)
#define UMM_WINDOW(r)	((r).s6 >> 3) /* blocks of the window, */
#define UMM_BLOCK(r)	(r).s7	      /* and the first */

#define UMM_PAGE_MASK 0xfffffffffffff000ul
#define UMM_NO_PAGE   0xfffffffffffffffful /* no masked address equals it */

struct umm {
	__global uchar *read_base, *read_base2, *write_base;
	ulong read_page, read_page2, write_page;
	ulong window_start; /* of the window: the first address, */
	ulong window_pages; /* and the pages; none once the work-item is faulted */
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

/* Does the host serve kernels while they run? Else the compiler has less to get right. */
#if !UMM_WAITS
#define UMM_TABLE		 __global const
#define UMM_PUBLISH(word, value) (*(word) = (value))
#else
#define UMM_TABLE volatile __global const
#if __OPENCL_C_VERSION__ == 200 || defined(__opencl_c_atomic_scope_all_devices)
#define UMM_FENCE(order) \
	atomic_work_item_fence(CLK_GLOBAL_MEM_FENCE, (order), memory_scope_all_svm_devices)
#else
#define UMM_FENCE(order) mem_fence(CLK_GLOBAL_MEM_FENCE)
#endif
/* What was written before is there for who finds it. */
#define UMM_PUBLISH(word, value)                 \
	do {                                     \
		UMM_FENCE(memory_order_release); \
		atomic_xchg((word), (value));    \
	} while (0)
#endif

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

UMM_INLINE void umm_wait_no_more(volatile __global uint *control)
{
#if UMM_WAITS
	if (control[UMM_CONTROL_WAIT])
		atomic_xchg(&control[UMM_CONTROL_WAIT], 0u);
#endif
}

/* Entry i of the log. */
UMM_INLINE void umm_log_entry(volatile __global uint *control, uint i, uint item, ulong addr,
			      uint flags)
{
	volatile __global uint *entry = control + UMM_CONTROL_LOG + 4 * (size_t)i;

	entry[0] = (uint)addr;
	entry[1] = (uint)(addr >> 32);
	entry[3] = item;
	UMM_PUBLISH(&entry[2], flags | UMM_FAULT_READY);
}

/* Tell the host of a page, if nobody has. Where there is no room for that, nobody waits for it. */
UMM_CALL void umm_log(volatile __global uint *control, uint8 round, uint item, ulong addr,
		      uint flags)
{
	uint i;

	if (umm_seen(control, round, addr, flags))
		return;
	i = atomic_inc(&control[UMM_CONTROL_FAULTS]);
	if (i < UMM_CAPACITY(round))
		umm_log_entry(control, i, item, addr, flags);
	else
		umm_wait_no_more(control);
}

/*
 * The same of several that nobody has told of: those that lie i pages behind addr, for each bit i
 * of pages. Their number is added once, for all work-items add to the same word.
 */
UMM_INLINE void umm_log_pages(volatile __global uint *control, uint8 round, uint item, ulong addr,
			      ulong pages, uint flags)
{
	uint count = (uint)popcount(pages), i, end;
	ulong behind;

	if (!count)
		return;
	i = atomic_add(&control[UMM_CONTROL_FAULTS], count);
	end = i + count;
	for (; i < end && i < UMM_CAPACITY(round); i++) {
		behind = popcount((pages & -pages) - 1) << 12;
		umm_log_entry(control, i, item, behind ? (addr & UMM_PAGE_MASK) + behind : addr,
			      flags);
		pages &= pages - 1;
	}
	if (i < end)
		umm_wait_no_more(control);
}

UMM_CALL void umm_report(volatile __global uint *control, __global uint *state, uint8 round,
			 uint item, ulong addr, uint flags)
{
	if (state[item] != UMM_EPOCH(round)) {
		state[item] = UMM_EPOCH(round);
		atomic_inc(&control[UMM_CONTROL_ITEMS]);
	}
	umm_log(control, round, item, addr, flags);
}

/* Mark a leaf as used in this round. All work-items write the same, and look first. */
UMM_INLINE void umm_mark(__global uint *used, uint8 round, ulong leaf)
{
	if (used[leaf] != UMM_EPOCH(round))
		used[leaf] = UMM_EPOCH(round);
}

/* The number of the block's leaf, plus 1; 0: none. Marks it as used. */
UMM_INLINE uint umm_leaf(UMM_TABLE uint2 *directory, __global uint *used, uint8 round, ulong addr)
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
	umm_mark(used, round, way.y);
	return way.y + 1;
}

/* An entry of a leaf, of which the number is given as by umm_leaf(). */
UMM_INLINE uint umm_leaf_entry(UMM_TABLE uint *leaves, uint leaf, ulong addr)
{
	return leaf ? leaves[((size_t)(leaf - 1) << 9) + ((uint)(addr >> 12) & 511)] : 0;
}

/* The entry of the address's page; 0: none. */
UMM_CALL uint umm_lookup(UMM_TABLE uint2 *directory, UMM_TABLE uint *leaves, __global uint *used,
			 uint8 round, ulong addr)
{
	return umm_leaf_entry(leaves, umm_leaf(directory, used, round, addr), addr);
}

/*
 * How many bytes from addr on, of len, lie in one piece: pages of the block whose frames follow
 * each other. entry: that of the first page. 0: it lacks a bit of wanted.
 */
UMM_CALL ulong umm_extent(__global const uint2 *directory, __global const uint *leaves,
			  __global uint *used, uint8 round, ulong addr, ulong len, uint wanted,
			  uint *entry)
{
	uint leaf = umm_leaf(directory, used, round, addr);
	uint i = (uint)(addr >> 12) & 511;
	ulong got = 4096 - (addr & 4095);
	uint next;

	*entry = 0;
	if (!leaf)
		return 0;
	leaves += (size_t)(leaf - 1) << 9;
	next = leaves[i];
	if ((next & wanted) != wanted)
		return 0;
	*entry = next;
	for (next += 16; got < len && ++i < 512 && leaves[i] == next; next += 16)
		got += 4096;
	return got < len ? got : len;
}

/*
 * The entry of a page that is missing, after the host has brought it; 0: nobody waits for pages,
 * or not for this one.
 */
UMM_CALL uint umm_wait(volatile __global uint *control, UMM_TABLE uint2 *directory,
		       UMM_TABLE uint *leaves, __global uint *used, uint8 round, uint item,
		       ulong addr, uint flags)
{
#if UMM_WAITS
	uint most = control[UMM_CONTROL_WAIT], beat = 0, entry;

	if (!most)
		return 0;
	umm_log(control, round, item, addr, flags);
	for (uint looks = 0; looks < most; looks++) {
		entry = umm_lookup(directory, leaves, used, round, addr);
		if (entry) {
			atomic_inc(&control[UMM_CONTROL_WAITED]);
			UMM_FENCE(memory_order_acquire);
			return entry;
		}
		if (!control[UMM_CONTROL_WAIT])
			return 0;
		if (control[UMM_CONTROL_BEAT] != beat) {
			beat = control[UMM_CONTROL_BEAT];
			looks = 0;
		}
	}
	umm_wait_no_more(control);
#endif
	return 0;
}

UMM_INLINE void umm_set_faulted(struct umm *u)
{
	u->faulted = 1;
	u->window_pages = 0;
	u->read_page = u->read_page2 = u->write_page = UMM_NO_PAGE;
}

UMM_INLINE int umm_fault(struct umm *u, ulong addr, uint flags)
{
	umm_set_faulted(u);
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

/* The entry of the address's page; 0: the work-item is faulted. low: bits that must be 0. */
UMM_INLINE uint umm_entry_or_fault(struct umm *u, ulong addr, uint low, uint wanted)
{
	uint flags = wanted & 2 ? UMM_FAULT_WRITE : 0;
	uint entry;

	if (u->faulted)
		return 0;
	if (addr & low)
		return umm_fault(u, addr, UMM_FAULT_ALIGN | flags);
	entry = umm_lookup(u->directory, u->leaves, u->used, u->round, addr);
	if (!entry)
		entry = umm_wait(u->control, u->directory, u->leaves, u->used, u->round, u->item,
				 addr, flags);
	return (entry & wanted) == wanted ? entry : umm_fault(u, addr, flags);
}

/*
 * The same; few instructions where it is in the window, as it usually is. key: the page with
 * the bits that must be 0, which make a number of a page that is in no window if they are not.
 */
UMM_INLINE uint umm_entry(struct umm *u, ulong addr, ulong key, uint low, uint wanted)
{
	ulong page = rotate(key - u->window_start, 52ul);
	uint entry = 0;

	if (page < u->window_pages) {
		umm_mark(u->used, u->round, page >> 9);
		entry = u->leaves[page];
	}
	return (entry & wanted) == wanted ? entry : umm_entry_or_fault(u, addr, low, wanted);
}

/* The page read last, from now on. */
UMM_INLINE void umm_read_keep(struct umm *u, ulong key, __global uchar *base)
{
#if UMM_CACHED_PAGES > 1
	u->read_page2 = u->read_page;
	u->read_base2 = u->read_base;
#endif
	u->read_page = key;
	u->read_base = base;
}

/*
 * Where addr is for loads; zeros: the work-item is faulted. low: bits that must be 0. The compiler
 * makes fewest instructions of it where nothing has to be asked afterwards.
 */
UMM_INLINE __global const uchar *umm_read_at(struct umm *u, ulong addr, uint low)
{
	ulong key = addr & (UMM_PAGE_MASK | low);
	uint entry;

	if (key == u->read_page)
		return u->read_base + ((size_t)addr & 4095);
#if UMM_CACHED_PAGES > 1
	if (key == u->read_page2) {
		umm_read_keep(u, key, u->read_base2);
		return u->read_base + ((size_t)addr & 4095);
	}
#endif
	entry = umm_entry(u, addr, key, low, 1);
	if (!entry)
		return (__global const uchar *)u->control + 4 * UMM_CONTROL_ZEROS;
	umm_read_keep(u, key, umm_frame(u, entry));
	return u->read_base + ((size_t)addr & 4095);
}

/* The same for stores, and for atomics, which do both. */
UMM_INLINE __global uchar *umm_write_at(struct umm *u, ulong addr, uint low)
{
	ulong key = addr & (UMM_PAGE_MASK | low);
	uint entry;

	if (key != u->write_page) {
		entry = umm_entry(u, addr, key, low, 3);
		if (!entry)
			return 0;
		u->write_page = key;
		u->write_base = umm_frame(u, entry);
	}
	return u->write_base + ((size_t)addr & 4095);
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
	u->window_start = (ulong)UMM_BLOCK(umm_round) << 21;
	u->window_pages = (ulong)UMM_WINDOW(umm_round) << 9;
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

/* Pages that one call asks for ahead when the first is missing. */
#define UMM_AHEAD 64

/*
 * Tell of what is missing from addr on, and wait for the first of it. The entry of that; 0: it does
 * not come, or is not what is wanted.
 */
UMM_CALL uint umm_miss_span(volatile __global uint *control, uint8 round, uint item,
			    __global const uint2 *directory, __global const uint *leaves,
			    __global uint *used, ulong addr, ulong len, uint wanted)
{
	uint flags = wanted & 2 ? UMM_FAULT_WRITE : 0;
	ulong page = addr, block = UMM_NO_PAGE, missing = 0;
	uint entry = 0, first = 0, leaf = 0;

	for (uint i = 0; i < UMM_AHEAD && page < addr + len; i++) {
		if (page >> 21 != block)
			leaf = umm_leaf(directory, used, round, page);
		block = page >> 21;
		entry = umm_leaf_entry(leaves, leaf, page);
		if ((entry & wanted) != wanted && !umm_seen(control, round, page, flags))
			missing |= 1ul << i;
		first = i ? first : entry;
		page = (page & UMM_PAGE_MASK) + 4096;
	}
	umm_log_pages(control, round, item, addr, missing, flags);
	if (!first)
		first = umm_wait(control, directory, leaves, used, round, item, addr, flags);
	return (first & wanted) == wanted ? first : 0;
}

UMM_INLINE __global uchar *umm_span(struct umm *u, ulong addr, ulong len, ulong *got, uint wanted)
{
	uint entry = 0;

	*got = 0;
	if (u->faulted || !len)
		return u->pool0;
	*got = umm_extent(u->directory, u->leaves, u->used, u->round, addr, len, wanted, &entry);
	if (!*got && umm_miss_span(u->control, u->round, u->item, u->directory, u->leaves, u->used,
				   addr, len, wanted))
		*got = umm_extent(u->directory, u->leaves, u->used, u->round, addr, len, wanted,
				  &entry);
	if (*got)
		return umm_frame(u, entry) + (addr & 4095);
	umm_fault(u, addr, wanted & 2 ? UMM_FAULT_WRITE : 0);
	return u->pool0;
}

/**
 * umm_span_load(), umm_span_store() - memory from addr on as it lies on the device
 *
 * For loops over contiguous memory, without a look at the table for each access:
 *
 *	for (; len; addr += n, len -= n) {
 *		p = (__global const float *)umm_span_load(&u, addr, len, &n);
 *		if (!n)
 *			return;
 *		for (ulong i = 0; i < n / 4; i++)
 *			sum += p[i];
 *	}
 *
 * *got: so many bytes of len, at least up to the end of the page. 0: the work-item is faulted;
 * pages behind the first that is missing are asked for with it. The pointer is good until the
 * kernel ends.
 */
UMM_INLINE __global const uchar *umm_span_load(struct umm *u, ulong addr, ulong len, ulong *got)
{
	return umm_span(u, addr, len, got, 1);
}

UMM_INLINE __global uchar *umm_span_store(struct umm *u, ulong addr, ulong len, ulong *got)
{
	return umm_span(u, addr, len, got, 3);
}

UMM_INLINE int umm_prepare(struct umm *u, ulong addr, ulong len, uint wanted)
{
	ulong got;

	for (; len && !u->faulted; addr += got, len -= got)
		umm_span(u, addr, len, &got, wanted);
	return !u->faulted;
}

/**
 * umm_prepare_load(), umm_prepare_store() - have the pages of addr .. addr + len
 *
 * What is in the table stays there while a kernel runs: after this every load from there, or every
 * load and store, is sure not to fault in this run. So a kernel that may do nothing twice loads,
 * prepares all that it is going to change, asks umm_faulted(), and then changes it.
 *
 * Return: 0: the work-item is faulted.
 */
UMM_INLINE int umm_prepare_load(struct umm *u, ulong addr, ulong len)
{
	return umm_prepare(u, addr, len, 1);
}

UMM_INLINE int umm_prepare_store(struct umm *u, ulong addr, ulong len)
{
	return umm_prepare(u, addr, len, 3);
}

/*
 * Pointers that read naturally. They hold addresses of the CPU: take addresses of members
 * and elements as ever, and go through umm_load() and umm_store() for what is there. They are not
 * to be dereferenced, and need a device with 64-bit pointers.
 *
 *	__global struct node *p = UMM_POINTER(struct node, head);
 *
 *	while (p) {
 *		sum += umm_load(&u, &p->value);
 *		p = UMM_LOAD_POINTER(&u, struct node, &p->next);
 *	}
 */
#define UMM_POINTER(type, addr)	      ((__global type *)(size_t)(addr))
#define UMM_LOAD_POINTER(u, type, at) UMM_POINTER(type, umm_load_ptr((u), (ulong)(size_t)(at)))
#define UMM_OVERLOAD		      __attribute__((overloadable, always_inline))

/*
 * umm_load_NAME(u, addr) and umm_store_NAME(u, addr, value): at addr, which must be a
 * multiple of the type's size.
 */
#define UMM_DEFINE_ACCESS(name, type)                                              \
	UMM_INLINE type umm_load_##name(struct umm *u, ulong addr)                 \
	{                                                                          \
		__global const uchar *at = umm_read_at(u, addr, sizeof(type) - 1); \
                                                                                   \
		return *(__global const type *)at;                                 \
	}                                                                          \
	UMM_INLINE void umm_store_##name(struct umm *u, ulong addr, type value)    \
	{                                                                          \
		__global uchar *at = umm_write_at(u, addr, sizeof(type) - 1);      \
                                                                                   \
		if (at)                                                            \
			*(__global type *)at = value;                              \
	}

/* For pointers: umm_load(u, p) and umm_store(u, p, value). */
#define UMM_DEFINE_POINTER(type)                                                               \
	static inline UMM_OVERLOAD type umm_load(struct umm *u, __global const type *p)        \
	{                                                                                      \
		return umm_load_##type(u, (ulong)(size_t)p);                                   \
	}                                                                                      \
	static inline UMM_OVERLOAD void umm_store(struct umm *u, __global type *p, type value) \
	{                                                                                      \
		umm_store_##type(u, (ulong)(size_t)p, value);                                  \
	}

/*
 * umm_vload_TYPEn(u, addr) and umm_vstore_TYPEn(u, addr, value): as vloadn() and vstoren(), at
 * a multiple of the element's size; 3 elements are as large as 3.
 */
#define UMM_DEFINE_PACKED(type, n)                                                     \
	UMM_INLINE type##n umm_vload_##type##n(struct umm *u, ulong addr)              \
	{                                                                              \
		__global const uchar *at;                                              \
		type some[n];                                                          \
                                                                                       \
		if ((addr & 4095) + n * sizeof(type) <= 4096) {                        \
			at = umm_read_at(u, addr, sizeof(type) - 1);                   \
			return vload##n(0, (__global const type *)at);                 \
		}                                                                      \
		for (uint i = 0; i < n; i++)                                           \
			some[i] = umm_load_##type(u, addr + i * sizeof(type));         \
		return u->faulted ? (type##n)0 : vload##n(0, some);                    \
	}                                                                              \
	UMM_INLINE void umm_vstore_##type##n(struct umm *u, ulong addr, type##n value) \
	{                                                                              \
		__global uchar *at;                                                    \
		type some[n];                                                          \
                                                                                       \
		if ((addr & 4095) + n * sizeof(type) <= 4096) {                        \
			at = umm_write_at(u, addr, sizeof(type) - 1);                  \
			if (at)                                                        \
				vstore##n(value, 0, (__global type *)at);              \
			return;                                                        \
		}                                                                      \
		vstore##n(value, 0, some);                                             \
		umm_prepare_store(u, addr, n * sizeof(type));                          \
		for (uint i = 0; i < n; i++)                                           \
			umm_store_##type(u, addr + i * sizeof(type), some[i]);         \
	}

#define UMM_DEFINE_VECTOR(type, n)          \
	UMM_DEFINE_ACCESS(type##n, type##n) \
	UMM_DEFINE_POINTER(type##n)         \
	UMM_DEFINE_PACKED(type, n)

#define UMM_DEFINE_TYPE(type)         \
	UMM_DEFINE_ACCESS(type, type) \
	UMM_DEFINE_POINTER(type)      \
	UMM_DEFINE_VECTOR(type, 2)    \
	UMM_DEFINE_VECTOR(type, 3)    \
	UMM_DEFINE_VECTOR(type, 4)    \
	UMM_DEFINE_VECTOR(type, 8)    \
	UMM_DEFINE_VECTOR(type, 16)

UMM_DEFINE_ACCESS(ptr, ulong)
UMM_DEFINE_TYPE(char)
UMM_DEFINE_TYPE(uchar)
UMM_DEFINE_TYPE(short)
UMM_DEFINE_TYPE(ushort)
UMM_DEFINE_TYPE(int)
UMM_DEFINE_TYPE(uint)
UMM_DEFINE_TYPE(long)
UMM_DEFINE_TYPE(ulong)
UMM_DEFINE_TYPE(float)
#ifdef cl_khr_fp64
UMM_DEFINE_TYPE(double)
#endif

/*
 * Halves are floats for the kernel, as vload_half() and vstore_half() have it, which needs no
 * cl_khr_fp16: umm_load_half(u, addr), umm_store_half(u, addr, value), and vectors of them at a
 * multiple of 2, umm_vload_halfn(u, addr), umm_vstore_halfn(u, addr, value).
 */
UMM_INLINE float umm_load_half(struct umm *u, ulong addr)
{
	__global const uchar *at = umm_read_at(u, addr, 1);

	return vload_half(0, (__global const half *)at);
}

UMM_INLINE void umm_store_half(struct umm *u, ulong addr, float value)
{
	__global uchar *at = umm_write_at(u, addr, 1);

	if (at)
		vstore_half(value, 0, (__global half *)at);
}

#define UMM_DEFINE_HALVES(n)                                                          \
	UMM_INLINE float##n umm_vload_half##n(struct umm *u, ulong addr)              \
	{                                                                             \
		__global const uchar *at;                                             \
		float some[n];                                                        \
                                                                                      \
		if ((addr & 4095) + 2 * n <= 4096) {                                  \
			at = umm_read_at(u, addr, 1);                                 \
			return vload_half##n(0, (__global const half *)at);           \
		}                                                                     \
		for (uint i = 0; i < n; i++)                                          \
			some[i] = umm_load_half(u, addr + 2 * i);                     \
		return u->faulted ? (float##n)0 : vload##n(0, some);                  \
	}                                                                             \
	UMM_INLINE void umm_vstore_half##n(struct umm *u, ulong addr, float##n value) \
	{                                                                             \
		__global uchar *at;                                                   \
		float some[n];                                                        \
                                                                                      \
		if ((addr & 4095) + 2 * n <= 4096) {                                  \
			at = umm_write_at(u, addr, 1);                                \
			if (at)                                                       \
				vstore_half##n(value, 0, (__global half *)at);        \
			return;                                                       \
		}                                                                     \
		vstore##n(value, 0, some);                                            \
		umm_prepare_store(u, addr, 2 * n);                                    \
		for (uint i = 0; i < n; i++)                                          \
			umm_store_half(u, addr + 2 * i, some[i]);                     \
	}

UMM_DEFINE_HALVES(2)
UMM_DEFINE_HALVES(3)
UMM_DEFINE_HALVES(4)
UMM_DEFINE_HALVES(8)
UMM_DEFINE_HALVES(16)

/*
 * umm_atomic_OP_TYPE(u, addr, ...): as atomic_OP(), the old value, or 0 where the work-item is
 * faulted: then nothing happened. All work-items of a launch agree; no CPU has the page meanwhile.
 */
#define UMM_DEFINE_ATOMIC(op, fn, type)                                                 \
	UMM_INLINE type umm_atomic_##op##_##type(struct umm *u, ulong addr, type value) \
	{                                                                               \
		__global uchar *at = umm_write_at(u, addr, sizeof(type) - 1);           \
                                                                                        \
		return at ? fn((volatile __global type *)at, value) : (type)0;          \
	}

#define UMM_DEFINE_CMPXCHG(fn, type)                                                               \
	UMM_INLINE type umm_atomic_cmpxchg_##type(struct umm *u, ulong addr, type old, type value) \
	{                                                                                          \
		__global uchar *at = umm_write_at(u, addr, sizeof(type) - 1);                      \
                                                                                                   \
		return at ? fn((volatile __global type *)at, old, value) : (type)0;                \
	}

#define UMM_DEFINE_ATOMICS(prefix, type)            \
	UMM_DEFINE_ATOMIC(add, prefix##add, type)   \
	UMM_DEFINE_ATOMIC(sub, prefix##sub, type)   \
	UMM_DEFINE_ATOMIC(xchg, prefix##xchg, type) \
	UMM_DEFINE_CMPXCHG(prefix##cmpxchg, type)
#define UMM_DEFINE_ATOMICS_MORE(prefix, type)     \
	UMM_DEFINE_ATOMIC(min, prefix##min, type) \
	UMM_DEFINE_ATOMIC(max, prefix##max, type) \
	UMM_DEFINE_ATOMIC(and, prefix##and, type) \
	UMM_DEFINE_ATOMIC(or, prefix## or, type)  \
	UMM_DEFINE_ATOMIC(xor, prefix## xor, type)

UMM_DEFINE_ATOMICS(atomic_, int)
UMM_DEFINE_ATOMICS(atomic_, uint)
UMM_DEFINE_ATOMICS_MORE(atomic_, int)
UMM_DEFINE_ATOMICS_MORE(atomic_, uint)
UMM_DEFINE_ATOMIC(xchg, atomic_xchg, float)
#ifdef cl_khr_int64_base_atomics
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
UMM_DEFINE_ATOMICS(atom_, long)
UMM_DEFINE_ATOMICS(atom_, ulong)
#endif
#ifdef cl_khr_int64_extended_atomics
#pragma OPENCL EXTENSION cl_khr_int64_extended_atomics : enable
UMM_DEFINE_ATOMICS_MORE(atom_, long)
UMM_DEFINE_ATOMICS_MORE(atom_, ulong)
#endif
