/* SPDX-License-Identifier: MIT */
/*
 * Finding and loading the objects of umm_tier.h: in the directories of UMM_TIER_PATH, then in umm/
 * beside the object that asks. The dynamic loader ignores LD_PRELOAD with a path in programs that
 * run with more rights than their user has, so the variable needs no second look here. No locks.
 */
#include "tier.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool path_in(char path[PATH_MAX], const char *dir, size_t dir_len, const char *scheme)
{
	int len = snprintf(path, PATH_MAX, "%.*s/tier-%s.so", (int)dir_len, dir, scheme);

	return len > 0 && len < PATH_MAX && !access(path, R_OK);
}

static bool path_find(char path[PATH_MAX], const char *scheme, const char *own)
{
	const char *dirs = getenv("UMM_TIER_PATH");
	char beside[PATH_MAX];
	int own_len;

	while (dirs && *dirs) {
		size_t len = strcspn(dirs, ":");

		if (len && path_in(path, dirs, len, scheme))
			return true;
		dirs += len + (dirs[len] == ':');
	}
	own_len = snprintf(beside, sizeof(beside), "%s/umm", own);
	return own_len < PATH_MAX && path_in(path, beside, (size_t)own_len, scheme);
}

bool tier_directory(const void *inside, char *dir, size_t dir_len)
{
	const char *slash;
	Dl_info info;

	if (!dladdr(inside, &info) || !info.dli_fname)
		return false;
	slash = strrchr(info.dli_fname, '/');
	if (!slash || (size_t)(slash - info.dli_fname) >= dir_len)
		return false;
	snprintf(dir, dir_len, "%.*s", (int)(slash - info.dli_fname), info.dli_fname);
	return true;
}

const struct umm_tier_ops *tier_load(const struct settings_device *device, const char *dir,
				     struct umm_tier_reason *reason)
{
	const struct umm_tier_ops *ops;
	char path[PATH_MAX];
	void *object;

	if (!path_find(path, device->scheme, dir)) {
		snprintf(reason->text, reason->len,
			 "there is no kind of device \"%s\" (no tier-%s.so)", device->scheme,
			 device->scheme);
		return NULL;
	}
	object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!object) {
		snprintf(reason->text, reason->len, "%s", dlerror());
		return NULL;
	}
	ops = dlsym(object, "umm_tier_ops");
	if (!ops || ops->size < sizeof(*ops) || ops->api != UMM_TIER_API) {
		snprintf(reason->text, reason->len, "%s is not of this version of libumm", path);
		return NULL;
	}
	return ops;
}
