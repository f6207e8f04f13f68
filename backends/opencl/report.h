/* SPDX-License-Identifier: MIT */
/* Errors of OpenCL in libumm's terms, and messages for people. */
#ifndef OPENCL_REPORT_H
#define OPENCL_REPORT_H

#include "umm_opencl.h"

/* A line for the log: "opencl: ...". The format is a literal: lines are limited by format. */
#define report(level, ...) umm_log(level, "opencl: " __VA_ARGS__)

/* "CL_OUT_OF_RESOURCES" and so on; static. */
const char *report_cl_name(cl_int err);

/*
 * The negative errno that an OpenCL error amounts to where the program gave what the call took:
 * what is invalid is -EINVAL. 0 for CL_SUCCESS. Silent.
 */
int report_cl_errno(cl_int err);

/* The other way round: the status of an event that stands for what ended with -errno err. */
cl_int report_cl_status(int err);

/* As report_cl_errno(), and where it is an error tell which call failed. */
int report_cl_given(cl_int err, const char *call);

/* The same of a call that takes nothing of the program's: what is invalid is -EIO. */
int report_cl(cl_int err, const char *call);

/* What the compiler said of a program, for free(); NULL: nothing, or there is no memory. */
char *report_build_log(cl_program program, cl_device_id device);

/* A line of the log for each line of text, since those are short. */
void report_lines(const char *text);

#endif
