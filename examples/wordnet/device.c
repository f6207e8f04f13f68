/* SPDX-License-Identifier: MIT */
/*
 * Compiles paths.cl and runs it. The kernel gets the CPU's pointers as they are; nothing is
 * copied to the device here. Only the searches are the device's own: a plain OpenCL buffer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* graph.h and paths.cl, put into the program by the build. */
extern const char wordnet_graph_h[];
extern const char wordnet_paths_cl[];

static int complain(const char *what, int err)
{
	fprintf(stderr, "wordnet-paths: %s: %s\n", what, umm_strerror(err));
	return err;
}

/* ---- which ---- */

struct choosing {
	const char *name;
	struct device_choice *choice;
	bool verbose;
};

static int choosing_look(void *priv, const struct umm_opencl_info *info)
{
	struct choosing *choosing = priv;

	if (choosing->verbose)
		fprintf(stderr, "\t%s: %s%s%s\n", info->platform_name,
			info->device ? info->device_name : "no device", info->usable ? ": " : "",
			info->usable ? info->reason : "");
	if (!info->device || info->usable)
		return 0;
	if (choosing->name && !strcasestr(info->device_name, choosing->name) &&
	    !strcasestr(info->platform_name, choosing->name))
		return 0;
	if (choosing->verbose)
		return 0;
	choosing->choice->id = info->device;
	snprintf(choosing->choice->name, sizeof(choosing->choice->name), "%s (%s)",
		 info->device_name, info->platform_name);
	return 1;
}

int device_choose(const char *name, struct device_choice *choice)
{
	struct choosing choosing = { .name = name, .choice = choice };

	choice->id = NULL;
	if (umm_opencl_list(choosing_look, &choosing) == -ENODEV) {
		fprintf(stderr, "wordnet-paths: %s\n", umm_opencl_advice());
		return -ENODEV;
	}
	if (choice->id)
		return 0;
	fprintf(stderr, "wordnet-paths: no OpenCL device that will do%s%s%s. There are:\n",
		name ? " has '" : "", name ? name : "", name ? "' in its name" : "");
	choosing.verbose = true;
	umm_opencl_list(choosing_look, &choosing);
	return -ENODEV;
}

/* ---- compile ---- */

static int kernel_build(struct device *d)
{
	size_t len = strlen(wordnet_graph_h) + strlen(wordnet_paths_cl) + 1;
	char *source = malloc(len), *log = NULL;
	cl_int err;
	int ret;

	if (!source)
		return -ENOMEM;
	snprintf(source, len, "%s%s", wordnet_graph_h, wordnet_paths_cl);
	ret = umm_opencl_build(d->ocl, source, NULL, &d->program, &log);
	free(source);
	if (ret) {
		complain("paths.cl", ret);
		fprintf(stderr, "%s\n", log ? log : "");
	}
	free(log);
	if (ret)
		return ret;
	d->kernel = clCreateKernel(d->program, "paths", &err);
	return d->kernel ? 0 : complain("clCreateKernel", -EIO);
}

/* ---- answer ---- */

static cl_int set_arguments(struct device *d, const struct wordnet *w, struct query *queries)
{
	cl_ulong first = (cl_ulong)(uintptr_t)queries, synsets = (cl_ulong)(uintptr_t)w->synsets;
	cl_uint argument = UMM_OPENCL_ARGS;
	cl_int err;

	err = clSetKernelArg(d->kernel, argument++, sizeof(first), &first);
	if (err == CL_SUCCESS)
		err = clSetKernelArg(d->kernel, argument++, sizeof(synsets), &synsets);
	if (err == CL_SUCCESS)
		err = clSetKernelArg(d->kernel, argument, sizeof(cl_mem), &d->searches);
	return err;
}

int device_answer(struct device *d, const struct wordnet *w, struct query *queries, size_t n)
{
	struct umm_opencl_result result = { .size = sizeof(result) };
	struct umm_opencl_work work = {
		.size = sizeof(work), .kernel = d->kernel, .dims = 1, .global = &n
	};
	cl_uint zero = 0;
	cl_int err;
	int ret;

	err = clEnqueueFillBuffer(umm_opencl_cl_queue(d->ocl), d->searches, &zero, sizeof(zero), 0,
				  n * sizeof(struct search), 0, NULL, NULL);
	if (err == CL_SUCCESS)
		err = set_arguments(d, w, queries);
	if (err != CL_SUCCESS) {
		fprintf(stderr, "wordnet-paths: OpenCL error %d before the launch\n", err);
		return -EIO;
	}
	ret = umm_opencl_launch(d->ocl, &work, &result);
	d->nrounds += result.rounds;
	d->nfaults += result.faults;
	if (ret)
		complain("launch", ret);
	if (ret == -ENOSPC)
		fprintf(stderr, "A question needs more of the structure than that at a time: "
				"give a larger --limit.\n");
	return ret;
}

/* ---- open and close ---- */

/* Some compilers finish their work at the first launch: have that done before anybody measures. */
static int warm_up(struct device *d, struct umm_ctx *ctx)
{
	struct wordnet nothing = { 0 };
	void *blank; /* queries about no words */
	int ret = umm_alloc(ctx, BATCH * sizeof(struct query), 0, &blank);

	if (ret)
		return complain("memory for a first launch", ret);
	ret = device_answer(d, &nothing, blank, BATCH);
	umm_free(ctx, blank);
	d->nrounds = d->nfaults = 0;
	return ret;
}

int device_open(struct device *d, const struct device_choice *choice, struct umm_ctx *ctx,
		uint64_t bytes)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device = choice->id,
					      .device_bytes = bytes };
	cl_int err;
	int ret;

	*d = (struct device){ 0 };
	ret = umm_opencl_create(ctx, &options, &d->ocl);
	if (ret)
		return complain(choice->name, ret);
	ret = kernel_build(d);
	if (ret)
		goto err_close;
	d->searches = clCreateBuffer(umm_opencl_cl_context(d->ocl), CL_MEM_READ_WRITE,
				     BATCH * sizeof(struct search), NULL, &err);
	if (!d->searches) {
		ret = complain("clCreateBuffer for the searches", -ENOMEM);
		goto err_close;
	}
	ret = warm_up(d, ctx);
	if (ret)
		goto err_close;
	return 0;

err_close:
	device_close(d);
	return ret;
}

void device_close(struct device *d)
{
	if (d->searches)
		clReleaseMemObject(d->searches);
	if (d->kernel)
		clReleaseKernel(d->kernel);
	if (d->program)
		clReleaseProgram(d->program);
	umm_opencl_destroy(d->ocl);
	*d = (struct device){ 0 };
}
