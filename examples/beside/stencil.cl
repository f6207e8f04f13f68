/* SPDX-License-Identifier: MIT */
/*
 * One step of smoothing a field on the globe: each point becomes the mean of itself and its four
 * neighbours; columns go around, the first and the last row stay. A work-item does a row. Each
 * of the rows that it reads has a struct umm of its own, which remembers where it is.
 */

__kernel void smooth(UMM_KERNEL_ARGS, ulong from, ulong to, ulong ncols)
{
	ulong row = get_global_id(0), at = from + 4 * ncols * row;
	float left, here, right, around = 0;
	struct umm u, above, below;
	int pole = row == 0 || row + 1 == get_global_size(0);

	if (!umm_begin(&u, UMM_ARGS))
		return;
	above = below = u;
	left = umm_load_float(&u, at + 4 * (ncols - 1));
	here = umm_load_float(&u, at);
	for (ulong i = 0; i < ncols; i++, left = here, here = right) {
		right = umm_load_float(&u, at + 4 * (i + 1 < ncols ? i + 1 : 0));
		if (!pole)
			around = umm_load_float(&above, at + 4 * i - 4 * ncols) +
				 umm_load_float(&below, at + 4 * i + 4 * ncols);
		if (umm_faulted(&u) || umm_faulted(&above) || umm_faulted(&below))
			return;
		umm_store_float(&u, to + 4 * (ncols * row + i),
				pole ? here : (here + left + right + around) / 5);
	}
}

__kernel void copied_smooth(__global const float *from, __global float *to, uint ncols)
{
	size_t row = get_global_id(0);
	__global const float *at = from + ncols * row;
	int pole = row == 0 || row + 1 == get_global_size(0);
	float around;

	for (uint i = 0; i < ncols; i++) {
		around = 0;
		if (!pole)
			around = at[(int)i - (int)ncols] + at[i + ncols];
		to[ncols * row + i] = pole ? at[i] :
					     (at[i] + at[i ? i - 1 : ncols - 1] +
					      at[i + 1 < ncols ? i + 1 : 0] + around) /
						      5;
	}
}
