/* SPDX-License-Identifier: MIT */
/*
 * OpenCL's error codes by name and as negative errnos, and what its compiler said.
 * No state, no locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

const char *report_cl_name(cl_int err)
{
	static const struct {
		cl_int err;
		const char *name;
	} names[] = {
		{ CL_SUCCESS, "CL_SUCCESS" },
		{ CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND" },
		{ CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE" },
		{ CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE" },
		{ CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE" },
		{ CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES" },
		{ CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY" },
		{ CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE" },
		{ CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST,
		  "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST" },
		{ CL_INVALID_VALUE, "CL_INVALID_VALUE" },
		{ CL_INVALID_PLATFORM, "CL_INVALID_PLATFORM" },
		{ CL_INVALID_DEVICE, "CL_INVALID_DEVICE" },
		{ CL_INVALID_CONTEXT, "CL_INVALID_CONTEXT" },
		{ CL_INVALID_QUEUE_PROPERTIES, "CL_INVALID_QUEUE_PROPERTIES" },
		{ CL_INVALID_COMMAND_QUEUE, "CL_INVALID_COMMAND_QUEUE" },
		{ CL_INVALID_MEM_OBJECT, "CL_INVALID_MEM_OBJECT" },
		{ CL_INVALID_BUILD_OPTIONS, "CL_INVALID_BUILD_OPTIONS" },
		{ CL_INVALID_PROGRAM, "CL_INVALID_PROGRAM" },
		{ CL_INVALID_PROGRAM_EXECUTABLE, "CL_INVALID_PROGRAM_EXECUTABLE" },
		{ CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME" },
		{ CL_INVALID_KERNEL, "CL_INVALID_KERNEL" },
		{ CL_INVALID_ARG_INDEX, "CL_INVALID_ARG_INDEX" },
		{ CL_INVALID_ARG_VALUE, "CL_INVALID_ARG_VALUE" },
		{ CL_INVALID_ARG_SIZE, "CL_INVALID_ARG_SIZE" },
		{ CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS" },
		{ CL_INVALID_WORK_DIMENSION, "CL_INVALID_WORK_DIMENSION" },
		{ CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE" },
		{ CL_INVALID_WORK_ITEM_SIZE, "CL_INVALID_WORK_ITEM_SIZE" },
		{ CL_INVALID_GLOBAL_OFFSET, "CL_INVALID_GLOBAL_OFFSET" },
		{ CL_INVALID_EVENT_WAIT_LIST, "CL_INVALID_EVENT_WAIT_LIST" },
		{ CL_INVALID_EVENT, "CL_INVALID_EVENT" },
		{ CL_INVALID_OPERATION, "CL_INVALID_OPERATION" },
		{ CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE" },
		{ CL_INVALID_GLOBAL_WORK_SIZE, "CL_INVALID_GLOBAL_WORK_SIZE" },
		{ -1001, "CL_PLATFORM_NOT_FOUND_KHR" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].err == err)
			return names[i].name;
	return "an OpenCL error";
}

int report_cl_errno(cl_int err)
{
	switch (err) {
	case CL_SUCCESS:
		return 0;
	case CL_DEVICE_NOT_FOUND:
	case CL_DEVICE_NOT_AVAILABLE:
	case -1001: /* CL_PLATFORM_NOT_FOUND_KHR */
		return -ENODEV;
	case CL_MEM_OBJECT_ALLOCATION_FAILURE:
	case CL_OUT_OF_RESOURCES:
	case CL_OUT_OF_HOST_MEMORY:
	case CL_INVALID_BUFFER_SIZE:
		return -ENOMEM;
	case CL_BUILD_PROGRAM_FAILURE:
		return -EINVAL;
	case CL_COMPILER_NOT_AVAILABLE:
		return -EOPNOTSUPP;
	default:
		return err <= CL_INVALID_VALUE && err >= CL_INVALID_GLOBAL_WORK_SIZE ? -EINVAL :
										       -EIO;
	}
}

cl_int report_cl_status(int err)
{
	switch (err) {
	case -ENODEV:
		return CL_DEVICE_NOT_AVAILABLE;
	case -ENOMEM:
		return CL_OUT_OF_HOST_MEMORY;
	case -ENOSPC:
		return CL_MEM_OBJECT_ALLOCATION_FAILURE;
	case -EINVAL:
		return CL_INVALID_VALUE;
	default:
		return CL_OUT_OF_RESOURCES;
	}
}

int report_cl_given(cl_int err, const char *call)
{
	int ret = report_cl_errno(err);

	if (ret)
		report(UMM_LOG_ERROR, "%s failed: %s (%d)", call, report_cl_name(err), err);
	return ret;
}

int report_cl(cl_int err, const char *call)
{
	int ret = report_cl_given(err, call);

	return ret == -EINVAL ? -EIO : ret;
}

char *report_build_log(cl_program program, cl_device_id device)
{
	size_t len = 0;
	char *log;

	if (clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &len) !=
		    CL_SUCCESS ||
	    len <= 1)
		return NULL;
	log = calloc(1, len + 1);
	if (!log || clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, len, log, NULL) !=
			    CL_SUCCESS) {
		free(log);
		return NULL;
	}
	if (log[strspn(log, " \t\r\n")])
		return log;
	free(log);
	return NULL;
}

void report_lines(const char *log)
{
	size_t len;

	for (; *log; log += len + (log[len] == '\n')) {
		len = strcspn(log, "\n");
		if (len)
			report(UMM_LOG_ERROR, "%.*s", len < 400 ? (int)len : 400, log);
	}
}
