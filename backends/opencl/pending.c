/* SPDX-License-Identifier: MIT */
/*
 * An operation takes several steps of the host, so that it cannot be a command of OpenCL. It
 * behaves like one: a list keeps the operations that were handed over, a thread does them, and two
 * user events stand for each. One is the caller's and gets its status. The other is for
 * the queue, and always completes well, so that a failed operation does not end the
 * queue's other commands.
 *
 *	in order:	marker (what is before)	operation	barrier (what comes after)
 *	out of order:				operation	marker, for clFinish()
 *
 * Operations that are not of the queue have the first event only. The barrier would hold up the
 * kernels of the operation itself, therefore rounds get a queue of their own before the first
 * operation is handed over.
 *
 * In order, operations are done one after the other. Out of order the first whose events are all
 * complete is next. Where there is none the thread asks again a little later, because
 * implementations call no callback for events that fail, and because the device may go meanwhile:
 * operations end with -ENODEV then, whatever they wait for.
 *
 * PoCL's basic device does commands in the thread that completes what they wait for, with
 * locks held that they need: completing a user event that a command waits for never returns.
 * There, operations are done at once, by the caller.
 *
 * Invariants: the list is in the order of the queue; each operation counts as one inside the
 * device (device_enter()), so that the device waits for all of them, but does not keep the context
 * open: that is closed by the program's threads, never by this one.
 *
 * Locks: pending.lock, held while an operation is put into the queue; never while one is done.
 */
#include "pending.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device.h"
#include "platform.h"
#include "report.h"

#define ASK_AGAIN_NS 100000

struct job {
	struct job *next;
	uint64_t number; /* from 1 on, as they were handed over */
	struct pending_op op;
	cl_event done;	 /* the caller's */
	cl_event passed; /* the queue's; NULL: nothing waits for it */
	cl_uint nwait;
	cl_event wait[]; /* retained; room for one more than the caller's */
};

struct pending {
	struct umm_opencl *ocl;
	bool in_queue;
	bool ordered; /* the first in the list is the next */
	bool at_once; /* the caller does it: see above */

	/* Protects: what follows, and the order of operations in the queue. Inside: launch. */
	pthread_mutex_t lock;
	pthread_cond_t added;
	pthread_t thread;
	bool started;
	bool stop;
	struct job *jobs;
	uint64_t running; /* number of the one that runs; 0: none does */
	uint64_t last;	  /* of the one handed over last */
	pthread_cond_t ran;
};

struct pending *pending_create(struct umm_opencl *ocl, bool in_queue)
{
	struct pending *pending = calloc(1, sizeof(*pending));
	pthread_condattr_t attr;

	if (!pending)
		return NULL;
	pending->ocl = ocl;
	pending->in_queue = in_queue;
	pending->ordered = in_queue && !ocl->out_of_order;
	pending->at_once = platform_completes_in_caller(ocl->device);
	pthread_mutex_init(&pending->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pending->added, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&pending->ran, NULL);
	return pending;
}

void pending_destroy(struct pending *pending)
{
	if (!pending)
		return;
	pthread_mutex_lock(&pending->lock);
	pending->stop = true;
	pthread_cond_signal(&pending->added);
	pthread_mutex_unlock(&pending->lock);
	if (pending->started)
		pthread_join(pending->thread, NULL);
	pthread_cond_destroy(&pending->ran);
	pthread_cond_destroy(&pending->added);
	pthread_mutex_destroy(&pending->lock);
	free(pending);
}

static void job_destroy(struct job *job)
{
	job->op.drop(job->op.priv);
	while (job->nwait)
		clReleaseEvent(job->wait[--job->nwait]);
	if (job->done)
		clReleaseEvent(job->done);
	if (job->passed)
		clReleaseEvent(job->passed);
	free(job);
}

static int take_events(struct job *job, const struct pending_op *op)
{
	int ret;

	for (; job->nwait < op->nwait; job->nwait++) {
		ret = report_cl_given(clRetainEvent(op->wait[job->nwait]),
				      "clRetainEvent() of an operation");
		if (ret)
			return ret;
		job->wait[job->nwait] = op->wait[job->nwait];
	}
	return 0;
}

static int job_create(struct umm_opencl *ocl, const struct pending_op *op, struct job **out)
{
	struct job *job = calloc(1, sizeof(*job) + (op->nwait + 1) * sizeof(cl_event));
	cl_event done;
	cl_int err;
	int ret;

	if (!job) {
		op->drop(op->priv);
		return -ENOMEM;
	}
	job->op = *op;
	ret = take_events(job, op);
	if (ret)
		goto err_job;
	done = clCreateUserEvent(ocl->context, &err);
	ret = report_cl(err, "clCreateUserEvent()");
	if (ret)
		goto err_job;
	job->done = done;
	*out = job;
	return 0;

err_job:
	job_destroy(job);
	return ret;
}

/* Do it. Its events are complete, or the device goes. */
static int job_run(struct umm_opencl *ocl, struct job *job)
{
	int ret = device_is_going(ocl) ? -ENODEV : 0;
	cl_int err;

	if (!ret && job->nwait) {
		err = clWaitForEvents(job->nwait, job->wait);
		ret = report_cl_given(err, "clWaitForEvents() of an operation");
	}
	return job->op.run(ocl, job->op.priv, ret);
}

/* Let those who wait for it go on. ret: what it ended with. */
static void job_end(struct job *job, int ret)
{
	clSetUserEventStatus(job->done, ret ? report_cl_status(ret) : CL_COMPLETE);
	if (job->passed)
		clSetUserEventStatus(job->passed, CL_COMPLETE);
	job_destroy(job);
}

static bool is_user_event(cl_event event)
{
	cl_command_type type = 0;

	clGetEventInfo(event, CL_EVENT_COMMAND_TYPE, sizeof(type), &type, NULL);
	return type == CL_COMMAND_USER;
}

/*
 * May its events be waited for? Out of order, if that returns at once. In order, if it returns
 * some time: only a user event may never complete. Of other events some implementations (rusticl)
 * find out only when they are waited for.
 */
static bool job_ready(const struct job *job, bool ordered)
{
	cl_int state = CL_QUEUED;

	for (cl_uint i = 0; i < job->nwait; i++) {
		if (ordered && !is_user_event(job->wait[i]))
			continue;
		if (clGetEventInfo(job->wait[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state),
				   &state, NULL) == CL_SUCCESS &&
		    state > CL_COMPLETE)
			return false;
	}
	return true;
}

/* The operation to be done now; NULL: none yet. */
static struct job *take_next_locked(struct pending *pending)
{
	bool going = device_is_going(pending->ocl);
	struct job **link, *job;

	/* If the device goes, what they wait for may never be completed. */
	for (link = &pending->jobs; (job = *link); link = &job->next) {
		if (going || job_ready(job, pending->ordered)) {
			*link = job->next;
			return job;
		}
		if (pending->ordered)
			break;
	}
	return NULL;
}

static void nap_locked(struct pending *pending)
{
	struct timespec until;

	if (!pending->jobs) {
		pthread_cond_wait(&pending->added, &pending->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ASK_AGAIN_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&pending->added, &pending->lock, &until);
}

static void *pending_main(void *priv)
{
	struct pending *pending = priv;
	struct job *job;
	int ret;

	pthread_mutex_lock(&pending->lock);
	while (pending->jobs || !pending->stop) {
		job = take_next_locked(pending);
		if (!job) {
			nap_locked(pending);
			continue;
		}
		pending->running = job->number;
		pthread_mutex_unlock(&pending->lock);
		ret = job_run(pending->ocl, job);
		pthread_mutex_lock(&pending->lock);
		pending->running = 0;
		pthread_cond_broadcast(&pending->ran);
		pthread_mutex_unlock(&pending->lock);
		job_end(job, ret);
		device_leave(pending->ocl, NULL);
		pthread_mutex_lock(&pending->lock);
	}
	pthread_mutex_unlock(&pending->lock);
	return NULL;
}

/* Rounds leave the caller's queue, which has to wait for them from now on. */
static int separate(struct umm_opencl *ocl)
{
	cl_command_queue queue;
	cl_int err;

	queue = clCreateCommandQueue(ocl->context, ocl->device,
				     ocl->profiled ? CL_QUEUE_PROFILING_ENABLE : 0, &err);
	if (err != CL_SUCCESS)
		return report_cl(err, "clCreateCommandQueue() for kernels");
	pthread_mutex_lock(&ocl->launch);
	clReleaseCommandQueue(ocl->rounds);
	ocl->rounds = queue;
	ocl->rounds_out_of_order = false;
	pthread_mutex_unlock(&ocl->launch);
	return 0;
}

/* With signals blocked: a handler that touches a page of the device would wait for this thread. */
static int start_locked(struct pending *pending)
{
	sigset_t all, before;
	int ret;

	if (pending->started)
		return 0;
	ret = pending->in_queue ? separate(pending->ocl) : 0;
	if (ret)
		return ret;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = -pthread_create(&pending->thread, NULL, pending_main, pending);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		report(UMM_LOG_ERROR, "no thread for operations could be started: %s",
		       umm_strerror(ret));
	pending->started = !ret;
	return ret;
}

/* Its place in the queue, between what is there already and what comes later. */
static int enqueue_locked(struct pending *pending, struct job *job)
{
	cl_command_queue queue = pending->ocl->queue;
	cl_int err = CL_SUCCESS;
	cl_event passed;

	if (pending->ordered) {
		err = clEnqueueMarkerWithWaitList(queue, 0, NULL, &job->wait[job->nwait]);
		job->nwait += err == CL_SUCCESS;
	}
	if (err != CL_SUCCESS)
		return report_cl(err, "clEnqueueMarkerWithWaitList() before an operation");
	passed = clCreateUserEvent(pending->ocl->context, &err);
	if (err != CL_SUCCESS)
		return report_cl(err, "clCreateUserEvent()");
	job->passed = passed;
	err = pending->ordered ? clEnqueueBarrierWithWaitList(queue, 1, &passed, NULL) :
				 clEnqueueMarkerWithWaitList(queue, 1, &passed, NULL);
	clFlush(queue);
	return report_cl(err, pending->ordered ? "clEnqueueBarrierWithWaitList() of an operation" :
						 "clEnqueueMarkerWithWaitList() of an operation");
}

static void append_locked(struct pending *pending, struct job *job)
{
	struct job **link = &pending->jobs;

	while (*link)
		link = &(*link)->next;
	*link = job;
	job->number = ++pending->last;
	pthread_cond_signal(&pending->added);
}

static int hand_over(struct pending *pending, struct job *job)
{
	int ret;

	pthread_mutex_lock(&pending->lock);
	ret = start_locked(pending);
	if (!ret && pending->in_queue)
		ret = enqueue_locked(pending, job);
	if (!ret) {
		device_stay(pending->ocl);
		append_locked(pending, job);
	}
	pthread_mutex_unlock(&pending->lock);
	return ret && loss_ask(&pending->ocl->transfer.loss) ? -ENODEV : ret;
}

int pending_submit(struct pending *pending, const struct pending_op *op, cl_event *event)
{
	struct job *job;
	cl_event done;
	int ret = job_create(pending->ocl, op, &job);

	if (ret)
		return ret;
	done = job->done;
	clRetainEvent(done);
	if (pending->at_once)
		job_end(job, job_run(pending->ocl, job));
	else
		ret = hand_over(pending, job);
	if (!ret) {
		*event = done;
		return 0;
	}
	if (job->passed)
		clSetUserEventStatus(job->passed, CL_COMPLETE);
	job_destroy(job);
	clReleaseEvent(done);
	return ret;
}

/* Those up to this number; the list is in the order of numbers. */
static bool have_run_locked(const struct pending *pending, uint64_t number)
{
	return (!pending->running || pending->running > number) &&
	       (!pending->jobs || pending->jobs->number > number);
}

bool pending_is_idle(struct pending *pending)
{
	bool idle;

	pthread_mutex_lock(&pending->lock);
	idle = have_run_locked(pending, pending->last);
	pthread_mutex_unlock(&pending->lock);
	return idle;
}

void pending_wait(struct pending *pending)
{
	uint64_t number;

	pthread_mutex_lock(&pending->lock);
	number = pending->last;
	while (!have_run_locked(pending, number))
		pthread_cond_wait(&pending->ran, &pending->lock);
	pthread_mutex_unlock(&pending->lock);
}
