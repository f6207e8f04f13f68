/* SPDX-License-Identifier: MIT */
/*
 * Devices that have gone: unplugged, reset, hung, or with a context that a broken kernel took
 * down. Implementations say so in many ways (CL_DEVICE_NOT_AVAILABLE, CL_OUT_OF_RESOURCES,
 * CL_INVALID_COMMAND_QUEUE), and most of them can also mean that a single command was wrong. So
 * an error is no verdict: after one the device is asked to read a word, and what cannot do
 * that is lost.
 *
 * A lost device is not asked again: some implementations take seconds for each answer. Copies fail
 * at once, which makes the core poison the pages that only this device had, one by one as they
 * are wanted; launches and windows say -ENODEV.
 *
 * No locks: a flag that is set once.
 */
#include "loss.h"

#include "report.h"

int loss_init(struct loss *loss, cl_context context, cl_command_queue queue)
{
	static cl_uint zero;
	cl_int err;

	loss->queue = queue;
	atomic_init(&loss->lost, false);
	loss->mem = clCreateBuffer(context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof(zero),
				   &zero, &err);
	return report_cl(err, "clCreateBuffer() for asking the device");
}

void loss_fini(struct loss *loss)
{
	clReleaseMemObject(loss->mem);
}

bool loss_ask(struct loss *loss)
{
	cl_uint word;
	cl_int err;

	if (loss_is_known(loss))
		return true;
	err = clEnqueueReadBuffer(loss->queue, loss->mem, CL_TRUE, 0, sizeof(word), &word, 0, NULL,
				  NULL);
	if (err == CL_SUCCESS)
		return false;
	if (!atomic_exchange(&loss->lost, true))
		report(UMM_LOG_ERROR,
		       "the device is lost: %s (%d); pages that only it had raise SIGBUS when they "
		       "are touched, all others stay; destroy it and create it anew",
		       report_cl_name(err), err);
	return true;
}
