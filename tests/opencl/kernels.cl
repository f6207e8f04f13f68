/* SPDX-License-Identifier: MIT */
/* Kernels of the OpenCL tests: compiled with the prelude. */

/* For each type: copy, add one, and say what it is as a wide number. */
#define DEFINE_COPY(T, WIDE)                                                     \
	__kernel void copy_##T(UMM_KERNEL_ARGS, ulong in, ulong out, ulong wide) \
	{                                                                        \
		struct umm u;                                                    \
		ulong i = get_global_id(0);                                      \
		T value;                                                         \
                                                                                 \
		if (!umm_begin(&u, UMM_ARGS))                                    \
			return;                                                  \
		value = umm_load_##T(&u, in + i * sizeof(T));                    \
		umm_store_##T(&u, out + i * sizeof(T), (T)(value + 1));          \
		umm_store_##WIDE(&u, wide + i * 8, (WIDE)value);                 \
	}

DEFINE_COPY(char, long)
DEFINE_COPY(uchar, ulong)
DEFINE_COPY(short, long)
DEFINE_COPY(ushort, ulong)
DEFINE_COPY(int, long)
DEFINE_COPY(uint, ulong)
DEFINE_COPY(long, long)
DEFINE_COPY(ulong, ulong)
DEFINE_COPY(float, long)
#ifdef cl_khr_fp64
DEFINE_COPY(double, long)
#endif

/* struct node { struct node *next; uint64_t value; } on the CPU */
__kernel void sum_list(UMM_KERNEL_ARGS, ulong head, ulong out)
{
	struct umm u;
	ulong sum = 0, n = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (; head; head = umm_load_ptr(&u, head), n++)
		sum += umm_load_ulong(&u, head + 8) * (n + 1);
	if (umm_faulted(&u))
		return;
	umm_store_ulong(&u, out, sum);
}

/* The same for a list of each work-item's own; it goes on where it was when replayed. */
__kernel void sum_list_on(UMM_KERNEL_ARGS, ulong heads, ulong out, __global ulong *kept)
{
	__global ulong *mine = kept + 4 * get_global_id(0); /* started, place, sum, number */
	struct umm u;
	ulong next, value;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	if (!mine[0]) {
		next = umm_load_ptr(&u, heads + 8 * get_global_id(0));
		if (umm_faulted(&u))
			return;
		mine[0] = 1;
		mine[1] = next;
	}
	while (mine[1]) {
		next = umm_load_ptr(&u, mine[1]);
		value = umm_load_ulong(&u, mine[1] + 8);
		if (umm_faulted(&u))
			return;
		mine[2] += value * ++mine[3];
		mine[1] = next;
	}
	umm_store_ulong(&u, out + 8 * get_global_id(0), mine[2]);
}

/*
 * Adds up one word of each of n pairs of pages, and keeps how far it got. Where a page is
 * missing it asks for those of the next pairs as well, many more than it needs at once.
 */
__kernel void sum_pairs_on(UMM_KERNEL_ARGS, ulong in, uint n, ulong out, __global uint *kept)
{
	struct umm u, own;
	uint i, sum;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (i = kept[0]; i < n; kept[0] = ++i) {
		own = u;
		sum = umm_load_uint(&own, in + 8192 * (ulong)i);
		sum += umm_load_uint(&own, in + 8192 * (ulong)i + 4096);
		if (umm_faulted(&own))
			break;
		kept[1] += sum;
	}
	if (i == n)
		umm_store_uint(&u, out, kept[1]);
	for (uint end = i + 20; i < end && i < n; i++) {
		own = u;
		umm_load_uint(&own, in + 8192 * (ulong)i);
		own = u;
		umm_load_uint(&own, in + 8192 * (ulong)i + 4096);
	}
}

/* Each work-item asks for n pages in one pass, each with a copy of its struct umm. */
__kernel void probe(UMM_KERNEL_ARGS, ulong in, uint n, ulong out)
{
	struct umm u, own;
	uint total = 0, faulted = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (uint i = 0; i < n; i++) {
		own = u;
		total += umm_load_uint(&own, in + (get_global_id(0) * n + i) * 4096);
		faulted |= umm_faulted(&own);
	}
	if (!faulted)
		umm_store_uint(&u, out + 4 * get_global_id(0), total);
}

__kernel void load(UMM_KERNEL_ARGS, ulong addr, ulong step)
{
	struct umm u;

	if (umm_begin(&u, UMM_ARGS))
		umm_load_uint(&u, addr + step * get_global_id(0));
}

__kernel void store(UMM_KERNEL_ARGS, ulong addr, ulong step, uint value)
{
	struct umm u;

	if (umm_begin(&u, UMM_ARGS))
		umm_store_uint(&u, addr + step * get_global_id(0), value);
}

/* out[i] = 3 * in[i] + 1 */
__kernel void map(UMM_KERNEL_ARGS, ulong in, ulong out)
{
	struct umm u;
	ulong at = 4 * get_global_id(0);

	if (!umm_begin(&u, UMM_ARGS))
		return;
	umm_store_uint(&u, out + at, 3 * umm_load_uint(&u, in + at) + 1);
}

/* Buffers beside managed memory: to[i] = out[i] = 3 * in[i] + from[i] */
__kernel void beside(UMM_KERNEL_ARGS, ulong in, ulong out, __global const uint *from,
		     __global uint *to)
{
	size_t i = get_global_id(0);
	struct umm u;
	uint value;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	value = 3 * umm_load_uint(&u, in + 4 * i) + from[i];
	umm_store_uint(&u, out + 4 * i, value);
	if (!umm_faulted(&u))
		to[i] = value;
}

/* Each work-item: the sum of its n words, step bytes apart. */
__kernel void sum(UMM_KERNEL_ARGS, ulong in, ulong n, ulong step, ulong stride, ulong out)
{
	struct umm u;
	ulong addr = in + stride * get_global_id(0);
	uint total = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (ulong i = 0; i < n; i++)
		total += umm_load_uint(&u, addr + i * step);
	if (umm_faulted(&u))
		return;
	umm_store_uint(&u, out + 4 * get_global_id(0), total);
}

/* The sum of n words, by spans; 0 after a miss too. */
uint span_sum(struct umm *u, ulong addr, ulong n)
{
	ulong left, got;
	uint total = 0;

	for (left = 4 * n; left; addr += got, left -= got) {
		__global const uint *p = (__global const uint *)umm_span_load(u, addr, left, &got);

		if (!got)
			return 0;
		for (uint i = 0; i < got / 4; i++)
			total += p[i];
	}
	return total;
}

/* Each work-item: the sum of its n words, and then of n others, if there are any. */
__kernel void sum_spans(UMM_KERNEL_ARGS, ulong in, ulong then, ulong n, ulong out)
{
	struct umm u;
	ulong at = 4 * n * get_global_id(0);
	uint total;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	total = span_sum(&u, in + at, n);
	if (then && !umm_faulted(&u))
		total += span_sum(&u, then + at, n);
	umm_store_uint(&u, out + 4 * get_global_id(0), total);
}

/* Each work-item: its number + value into all of its n words. */
__kernel void fill_spans(UMM_KERNEL_ARGS, ulong to, ulong n, uint value)
{
	struct umm u;
	ulong addr = to + 4 * n * get_global_id(0), left, got;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (left = 4 * n; left; addr += got, left -= got) {
		__global uint *p = (__global uint *)umm_span_store(&u, addr, left, &got);

		if (!got)
			return;
		for (uint i = 0; i < got / 4; i++)
			p[i] = (uint)get_global_id(0) + value;
	}
}

__kernel void grid(UMM_KERNEL_ARGS, ulong out, uint width, uint height)
{
	struct umm u;
	ulong x = get_global_id(0), y = get_global_id(1), z = get_global_id(2);

	if (!umm_begin(&u, UMM_ARGS))
		return;
	umm_store_uint(&u, out + 4 * ((z * height + y) * width + x),
		       (uint)(x + 100 * y + 10000 * z));
}

/* Not a kernel for umm_opencl_launch(). */
__kernel void dry(__global uint *a)
{
	a[get_global_id(0)] = 1;
}

/* The same as map, in place, for buffers: knows nothing of the prelude. */
__kernel void plain_map(__global uint *a)
{
	a[get_global_id(0)] = 3 * a[get_global_id(0)] + 1;
}

/* One word of every step-th page. */
__kernel void plain_mark(__global uint *a, uint step, uint value)
{
	a[get_global_id(0) * step * 1024 + 5] = value;
}

__kernel void plain_sum(__global const uint *a, uint n, __global uint *out)
{
	uint total = 0;

	for (uint i = get_global_id(0) * n; i < (get_global_id(0) + 1) * n; i++)
		total += a[i];
	out[get_global_id(0)] = total;
}
