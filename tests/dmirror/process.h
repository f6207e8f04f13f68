/* SPDX-License-Identifier: MIT */
#ifndef DMIRROR_PROCESS_H
#define DMIRROR_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct file;
struct umm_ctx;

/* Is there a device of this name? */
bool process_has(const char *path);

/* Open it: a descriptor or a negative errno. */
int process_open(const char *path, int flags);

/* The open device behind a descriptor, or NULL. The caller drops it. */
struct file *process_file_get(int fd);
void process_file_put(struct file *file);

int process_ioctl(struct file *file, uint32_t request, void *arg);

/* The descriptor is about to be closed. */
void process_close(int fd);

/* The address space, NULL as long as this process has not opened a device. Never goes away. */
struct umm_ctx *process_ctx(void);

#endif
