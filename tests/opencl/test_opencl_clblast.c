/* SPDX-License-Identifier: MIT */
/*
 * A library that nobody changes: CLBlast takes buffers and a queue. Its GEMM and AXPY work on
 * managed memory through windows, also where these take turns for lack of device memory,
 * and are checked against the same sums by the CPU.
 */
#include "rig.h"

#include <clblast_c.h>
#include <math.h>

#define RW (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

static float *matrix(struct rig *rig, size_t n, unsigned seed)
{
	float *values = rig_alloc(rig, n * sizeof(float));

	for (size_t i = 0; i < n; i++)
		values[i] = (float)((i * 7919 + seed) % 101) / 16 - 3;
	return values;
}

static struct umm_opencl_window *window(struct rig *rig, void *addr, size_t len)
{
	struct umm_opencl_window *out;

	assert_int_equal(umm_opencl_window_create(rig->ocl, addr, len, 0, &out), 0);
	return out;
}

static cl_mem acquire(struct umm_opencl_window *w, unsigned access)
{
	cl_mem mem;

	assert_int_equal(umm_opencl_window_acquire(w, access, &mem), 0);
	return mem;
}

static void assert_near(float value, double expected)
{
	if (fabs(value - expected) > 1e-3 * (1 + fabs(expected)))
		fail_msg("%g is not %g", (double)value, expected);
}

struct gemm {
	size_t m, n, k;
	float *a, *b, *c;
};

/* c = 2ab + c/2, and what it has to be, one row at a time. */
static void gemm_check(const struct gemm *g, const float *before)
{
	for (size_t i = 0; i < g->m; i++)
		for (size_t j = 0; j < g->n; j++) {
			double sum = 0;

			for (size_t l = 0; l < g->k; l++)
				sum += (double)g->a[i * g->k + l] * (double)g->b[l * g->n + j];
			assert_near(g->c[i * g->n + j], 2 * sum + (double)before[i * g->n + j] / 2);
		}
}

static void gemm_run(struct rig *rig, const struct gemm *g, struct umm_opencl_window *w[3])
{
	cl_command_queue queue = umm_opencl_cl_queue(rig->ocl);
	cl_mem a = acquire(w[0], UMM_OPENCL_READ), b = acquire(w[1], UMM_OPENCL_READ);
	cl_mem c = acquire(w[2], RW);
	cl_event event = NULL;

	assert_int_equal(CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeNo,
				      g->m, g->n, g->k, 2, a, 0, g->k, b, 0, g->n, 0.5F, c, 0, g->n,
				      &queue, &event),
			 CLBlastSuccess);
	for (int i = 0; i < 3; i++)
		assert_int_equal(umm_opencl_window_release(w[i], 1, &event), 0);
	clReleaseEvent(event);
}

static void gemm_works_on_managed_memory(void **state)
{
	struct rig *rig = *state;
	struct gemm g = { .m = 96, .n = 130, .k = 70 };
	struct umm_opencl_window *w[3];
	float *before;

	rig_open(rig, MIB, NULL);
	g.a = matrix(rig, g.m * g.k, 1);
	g.b = matrix(rig, g.k * g.n, 2);
	g.c = matrix(rig, g.m * g.n, 3);
	before = matrix(rig, g.m * g.n, 3);
	w[0] = window(rig, g.a, g.m * g.k * sizeof(float));
	w[1] = window(rig, g.b, g.k * g.n * sizeof(float));
	w[2] = window(rig, g.c, g.m * g.n * sizeof(float));
	gemm_run(rig, &g, w);
	gemm_check(&g, before);
	/* The result of the first is what the second begins with; a and b did not go away. */
	for (size_t i = 0; i < g.m * g.n; i++)
		before[i] = g.c[i];
	gemm_run(rig, &g, w);
	gemm_check(&g, before);
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE),
			 2 * ((g.m * g.n * sizeof(float) + PAGE - 1) / PAGE) * PAGE);
	CLBlastClearCache();
}

#define PARTS 6
#define PART  ((size_t)40 * 1024) /* floats: 40 pages */

/* y += 3x in parts, of which device memory holds two pairs at a time. */
static void axpy_works_with_less_device_memory_than_data(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options),
					      .window_bytes = 4 * PART * sizeof(float) };
	struct umm_opencl_window *w[PARTS][2];
	cl_command_queue queue;
	cl_event event;
	float *x, *y;

	rig_open(rig, MIB, &options);
	queue = umm_opencl_cl_queue(rig->ocl);
	x = matrix(rig, PARTS * PART, 4);
	y = matrix(rig, PARTS * PART, 5);
	for (size_t i = 0; i < PARTS; i++) {
		w[i][0] = window(rig, x + i * PART, PART * sizeof(float));
		w[i][1] = window(rig, y + i * PART, PART * sizeof(float));
	}
	for (size_t i = 0; i < 2 * PARTS; i++) {
		struct umm_opencl_window **pair = w[i % PARTS];
		cl_mem in = acquire(pair[0], UMM_OPENCL_READ), out = acquire(pair[1], RW);

		event = NULL;
		assert_int_equal(CLBlastSaxpy(PART, 3, in, 0, 1, out, 0, 1, &queue, &event),
				 CLBlastSuccess);
		assert_int_equal(umm_opencl_window_release(pair[0], 1, &event), 0);
		assert_int_equal(umm_opencl_window_release(pair[1], 1, &event), 0);
		clReleaseEvent(event);
	}
	for (size_t i = 0; i < PARTS * PART; i++)
		assert_near(y[i], (double)((i * 7919 + 5) % 101) / 16 - 3 + 6 * (double)x[i]);
	CLBlastClearCache();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(gemm_works_on_managed_memory),
		rig_test(axpy_works_with_less_device_memory_than_data),
	};

	return rig_main("opencl clblast", tests, argc, argv);
}
