/* SPDX-License-Identifier: MIT */
/* Kernels of test_opencl_types: everything that the prelude has beside scalar loads and stores. */

/* Bytes of each type from 128 * slot on, aligned; and packed, from an odd place on. */
#define COPY_ALIGNED(T, slot) umm_store_##T(&u, out + 128 * slot, umm_load_##T(&u, in + 128 * slot))
#define COPY_POINTED(T, slot)                           \
	umm_store(&u, UMM_POINTER(T, out + 128 * slot), \
		  umm_load(&u, UMM_POINTER(const T, in + 128 * slot)))
#define COPY_PACKED(T, n, slot)                            \
	umm_vstore_##T##n(&u, out + slot * 16 * sizeof(T), \
			  umm_vload_##T##n(&u, in + slot * 16 * sizeof(T)))

#define DEFINE_VECTORS(T)                                               \
	__kernel void aligned_##T(UMM_KERNEL_ARGS, ulong in, ulong out) \
	{                                                               \
		struct umm u;                                           \
                                                                        \
		if (!umm_begin(&u, UMM_ARGS))                           \
			return;                                         \
		COPY_ALIGNED(T##2, 0);                                  \
		COPY_ALIGNED(T##3, 1);                                  \
		COPY_ALIGNED(T##4, 2);                                  \
		COPY_ALIGNED(T##8, 3);                                  \
		COPY_POINTED(T##16, 4);                                 \
		COPY_POINTED(T, 5);                                     \
	}                                                               \
	__kernel void packed_##T(UMM_KERNEL_ARGS, ulong in, ulong out)  \
	{                                                               \
		struct umm u;                                           \
                                                                        \
		if (!umm_begin(&u, UMM_ARGS))                           \
			return;                                         \
		COPY_PACKED(T, 2, 0);                                   \
		COPY_PACKED(T, 3, 1);                                   \
		COPY_PACKED(T, 4, 2);                                   \
		COPY_PACKED(T, 8, 3);                                   \
		COPY_PACKED(T, 16, 4);                                  \
	}

DEFINE_VECTORS(char)
DEFINE_VECTORS(uchar)
DEFINE_VECTORS(short)
DEFINE_VECTORS(ushort)
DEFINE_VECTORS(int)
DEFINE_VECTORS(uint)
DEFINE_VECTORS(long)
DEFINE_VECTORS(ulong)
DEFINE_VECTORS(float)
#ifdef cl_khr_fp64
DEFINE_VECTORS(double)
#endif

/* Halves: as single ones, and as vectors of each width, doubled on the way. */
#define DOUBLE_HALVES(n, slot) \
	umm_vstore_half##n(&u, out + slot * 32, umm_vload_half##n(&u, in + slot * 32) * 2)

__kernel void halves(UMM_KERNEL_ARGS, ulong in, ulong out)
{
	struct umm u;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	DOUBLE_HALVES(2, 0);
	DOUBLE_HALVES(3, 1);
	DOUBLE_HALVES(4, 2);
	DOUBLE_HALVES(8, 3);
	DOUBLE_HALVES(16, 4);
	umm_store_half(&u, out + 5 * 32, umm_load_half(&u, in + 5 * 32) * 2);
}

/* One vector at an address that may be wrong. */
__kernel void misaligned(UMM_KERNEL_ARGS, ulong addr)
{
	struct umm u;

	if (umm_begin(&u, UMM_ARGS))
		umm_store_int4(&u, addr, (int4)1);
}

struct node {
	ulong next;
	ulong value;
};

__kernel void sum_pointers(UMM_KERNEL_ARGS, ulong head, ulong out)
{
	__global struct node *p = UMM_POINTER(struct node, head);
	struct umm u;
	ulong sum = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	while (p) {
		sum += umm_load(&u, &p->value);
		p = UMM_LOAD_POINTER(&u, struct node, &p->next);
	}
	if (!umm_faulted(&u))
		umm_store(&u, UMM_POINTER(ulong, out), sum);
}

/* in: what to count. Nothing is changed before nothing can fault any more. */
__kernel void count(UMM_KERNEL_ARGS, ulong in, ulong counts, ulong total)
{
	struct umm u;
	uint key;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	key = umm_load_uint(&u, in + 4 * get_global_id(0));
	umm_prepare_store(&u, counts + 4096 * (ulong)key, 4);
	umm_prepare_store(&u, total, 4);
	if (umm_faulted(&u))
		return;
	umm_atomic_add_uint(&u, counts + 4096 * (ulong)key, 1);
	umm_atomic_add_uint(&u, total, 1);
}

/* Words that n work-items change together, and one for each that says what it saw. */
__kernel void atomics(UMM_KERNEL_ARGS, ulong at, ulong saw)
{
	struct umm u;
	int i = get_global_id(0);

	if (!umm_begin(&u, UMM_ARGS))
		return;
	umm_prepare_store(&u, at, 64);
	umm_prepare_store(&u, saw + 4 * i, 4);
	if (umm_faulted(&u))
		return;
	umm_store_int(&u, saw + 4 * i, umm_atomic_add_int(&u, at, 1));
	umm_atomic_sub_uint(&u, at + 4, 2);
	umm_atomic_min_int(&u, at + 8, -i);
	umm_atomic_max_uint(&u, at + 12, i);
	umm_atomic_or_uint(&u, at + 16, 1u << (i & 31));
	umm_atomic_and_uint(&u, at + 20, ~(1u << (i & 31)));
	umm_atomic_xor_uint(&u, at + 24, i);
	umm_atomic_cmpxchg_int(&u, at + 28, 0, i + 1);
	umm_atomic_xchg_int(&u, at + 32, i);
	umm_atomic_xchg_float(&u, at + 36, 0.5f);
}

#ifdef cl_khr_int64_base_atomics
__kernel void atomics64(UMM_KERNEL_ARGS, ulong at)
{
	struct umm u;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	umm_prepare_store(&u, at, 8);
	if (!umm_faulted(&u))
		umm_atomic_add_ulong(&u, at, 0x100000001ul);
}
#endif

/*
 * Each work-item adds up every 17th word of len bytes, in as few pieces as there are; and says how
 * many. Not every word: llvmpipe leaves its loops after 65535 rounds.
 */
__kernel void sum_spans(UMM_KERNEL_ARGS, ulong in, ulong len, ulong out)
{
	ulong addr = in + len * get_global_id(0), left, n;
	__global const uint *p;
	struct umm u;
	uint sum = 0, pieces = 0;
	ulong skip = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (left = len; left; addr += n, left -= n, pieces++) {
		p = (__global const uint *)umm_span_load(&u, addr, left, &n);
		if (!n)
			return;
		for (; skip < n / 4; skip += 17)
			sum += p[skip];
		skip -= n / 4;
	}
	umm_store_uint2(&u, out + 8 * get_global_id(0), (uint2)(sum, pieces));
}

__kernel void fill_spans(UMM_KERNEL_ARGS, ulong out, ulong len, uint value)
{
	ulong addr = out + len * get_global_id(0), left, n;
	__global uint *p;
	struct umm u;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (left = len; left; addr += n, left -= n) {
		p = (__global uint *)umm_span_store(&u, addr, left, &n);
		for (ulong i = 0; i < n / 4; i++)
			p[i] = value;
		if (!n)
			return;
	}
}

/* Both counters or neither, wherever they are. */
__kernel void twice(UMM_KERNEL_ARGS, ulong a, ulong b)
{
	ulong at = 4096 * get_global_id(0);
	struct umm u;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	umm_prepare_store(&u, a + at, 4);
	umm_prepare_store(&u, b + at, 4);
	if (umm_faulted(&u))
		return;
	umm_store_uint(&u, a + at, umm_load_uint(&u, a + at) + 1);
	umm_store_uint(&u, b + at, umm_load_uint(&u, b + at) + 1);
}
