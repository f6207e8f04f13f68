/* SPDX-License-Identifier: MIT */
/*
 * One pointer for the CPU and a device.
 *
 *	cc hello.c $(pkg-config --cflags --libs umm) -lumm_opencl -lOpenCL
 */
#include <stdio.h>
#include <umm_opencl.h>

static const char source[] = "__kernel void increment(UMM_KERNEL_ARGS, ulong numbers)\n"
			     "{\n"
			     "	ulong mine = numbers + 4 * get_global_id(0);\n"
			     "	struct umm u;\n"
			     "\n"
			     "	if (umm_begin(&u, UMM_ARGS))\n"
			     "		umm_store_int(&u, mine, umm_load_int(&u, mine) + 1);\n"
			     "}\n";

int main(void)
{
	size_t i, n = 1000000, right = 0;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };
	struct umm_ctx *ctx;
	struct umm_opencl *device;
	cl_program program;
	void *memory;
	int *numbers;

	if (umm_ctx_create(NULL, &ctx) || umm_opencl_create(ctx, NULL, &device) ||
	    umm_alloc(ctx, n * sizeof(int), 0, &memory) ||
	    umm_opencl_build(device, source, NULL, &program, NULL))
		return 1; /* the library has said why */
	numbers = memory;
	for (i = 0; i < n; i++)
		numbers[i] = (int)i; /* the CPU writes, */
	work.kernel = clCreateKernel(program, "increment", NULL);
	clSetKernelArg(work.kernel, UMM_OPENCL_ARGS, sizeof(numbers), &numbers);
	if (umm_opencl_launch(device, &work, NULL))
		return 1; /* the device increments through the same pointer, */
	for (i = 0; i < n; i++)
		right += numbers[i] == (int)i + 1; /* and the CPU reads */
	printf("%zu of %zu numbers are right\n", right, n);
	clReleaseKernel(work.kernel);
	clReleaseProgram(program);
	umm_ctx_put(ctx);
	return right != n;
}
