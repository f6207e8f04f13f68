/* SPDX-License-Identifier: MIT */
/* Kernels of test_opencl_wait.c: compiled with the prelude. */

/* Counts itself before it misses anything: right only if no work-item is run again. */
__kernel void once(UMM_KERNEL_ARGS, ulong in, ulong out, volatile __global uint *count)
{
	struct umm u;
	ulong i = get_global_id(0);

	if (!umm_begin(&u, UMM_ARGS))
		return;
	atomic_inc(count);
	umm_store_uint(&u, out + 4096 * i, 3 * umm_load_uint(&u, in + 4096 * i) + 1);
}

/* Adds up the first word of n pages, and says if it has to stop before the end. */
__kernel void walk(UMM_KERNEL_ARGS, ulong in, uint n, __global uint *out, __global uint *stopped)
{
	struct umm u;
	uint sum = 0;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (uint i = 0; i < n && !umm_faulted(&u); i++)
		sum += umm_load_uint(&u, in + 4096 * (ulong)i);
	if (umm_faulted(&u))
		atomic_inc(stopped);
	else
		out[get_global_id(0)] = sum;
}

/* The same by spans, in which every word is added up. */
__kernel void spans(UMM_KERNEL_ARGS, ulong in, ulong len, __global uint *out)
{
	__global const uint *p;
	struct umm u;
	uint sum = 0;
	ulong n;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (; len; in += n, len -= n) {
		p = (__global const uint *)umm_span_load(&u, in, len, &n);
		if (!n)
			return;
		for (ulong i = 0; i < n / 4; i++)
			sum += p[i];
	}
	out[get_global_id(0)] = sum;
}

/* Adds one to a word of each of n pages, in place. */
__kernel void bump(UMM_KERNEL_ARGS, ulong at, uint n)
{
	struct umm u;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	for (uint i = 0; i < n && !umm_faulted(&u); i++, at += 4096)
		if (umm_load_uint(&u, at) == i)
			umm_store_uint(&u, at, i + 1000);
}

__kernel void store(UMM_KERNEL_ARGS, ulong addr, ulong step, uint value)
{
	struct umm u;

	if (umm_begin(&u, UMM_ARGS))
		umm_store_uint(&u, addr + step * get_global_id(0), value);
}
