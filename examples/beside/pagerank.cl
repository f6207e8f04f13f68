/* SPDX-License-Identifier: MIT */
/* One step of PageRank: over the CPU's own structure, and over arrays made for the device. */

#define DAMPING 0.85f

struct vertex {
	ulong in; /* struct vertex **: who points here */
	uint nin;
	uint nout;
	float rank[2];
};

__kernel void rank_step(UMM_KERNEL_ARGS, ulong vertices, ulong n, ulong turn)
{
	__global struct vertex *v = UMM_POINTER(struct vertex, vertices) + get_global_id(0);
	__global struct vertex *from;
	struct umm u;
	float sum = 0;
	ulong in;

	if (!umm_begin(&u, UMM_ARGS))
		return;
	in = umm_load(&u, &v->in);
	for (uint left = umm_load(&u, &v->nin); left; left--, in += 8) {
		from = UMM_POINTER(struct vertex, umm_load_ptr(&u, in));
		if (umm_faulted(&u))
			return;
		sum += umm_load(&u, &from->rank[turn]) / umm_load(&u, &from->nout);
	}
	umm_store(&u, &v->rank[1 - turn], (1 - DAMPING) / n + DAMPING * sum);
}

__kernel void copied_step(__global const uint *first, __global const uint *in,
			  __global const uint *nout, __global const float *rank,
			  __global float *next, uint n)
{
	size_t v = get_global_id(0);
	float sum = 0;

	for (uint i = first[v]; i < first[v + 1]; i++)
		sum += rank[in[i]] / nout[in[i]];
	next[v] = (1 - DAMPING) / n + DAMPING * sum;
}
