/* SPDX-License-Identifier: MIT */
/* A picture of where memory lived, over time. */
#ifndef WORDNET_PICTURE_H
#define WORDNET_PICTURE_H

#include <stdint.h>

#include "umm.h"

struct picture;

/** What has happened since the last look. */
enum picture_what {
	PICTURE_START,
	PICTURE_LAUNCH, /* the device answered */
	PICTURE_EDIT,	/* the CPU changed the structure */
};

/**
 * picture_create() - an empty picture
 * @ctx:          whose memory
 * @device_bytes: how much fits on the device
 * @path:         the file that it will be; created at once
 *
 * Return: the picture; NULL: out of memory, or there can be no such file. It said why.
 */
struct picture *picture_create(struct umm_ctx *ctx, uint64_t device_bytes, const char *path);

/** picture_destroy() - @picture may be NULL */
void picture_destroy(struct picture *picture);

/**
 * picture_area() - one more area of memory; only before the first look
 * @name: for people; not copied
 *
 * Return: 0; -ENOMEM.
 */
int picture_area(struct picture *picture, const char *name, const void *base, size_t bytes);

/**
 * picture_look() - note where every page is now
 * @seconds: the time
 *
 * Return: 0, or a negative errno.
 */
int picture_look(struct picture *picture, double seconds, enum picture_what what);

/**
 * picture_write() - write it as SVG
 * @title:    the first line
 * @subtitle: the second
 *
 * Return: 0, or a negative errno. It said why.
 */
int picture_write(struct picture *picture, const char *title, const char *subtitle);

#endif /* WORDNET_PICTURE_H */
