/* SPDX-License-Identifier: MIT */
/*
 * Asks the OpenCL backend what there is, without depending on it: libumm_opencl is
 * loaded at run time. It is looked for beside libumm, where both are installed, and
 * in the folder below it, where it is built; then wherever the dynamic loader looks.
 *
 * The backend stays loaded: OpenCL implementations leave threads and exit
 * handlers behind. While they load, standard output is standard error, so that what an
 * implementation prints does not end up in the middle of a JSON object. No locks.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <umm_opencl.h>

#include "opencl.h"

/* In the order of the bits of enum umm_opencl_capability. */
const struct opencl_capability opencl_capabilities[OPENCL_NR_CAPABILITIES] = {
	{ "paging", "demand paging", false },
	{ "double", "double", false },
	{ "atomic64", "64-bit atomics", false },
	{ "svm_coarse", "coarse-grained", true },
	{ "svm_fine_buffer", "fine-grained in buffers", true },
	{ "svm_fine_system", "fine-grained everywhere", true },
	{ "svm_atomics", "atomics", true },
};

_Static_assert(UMM_OPENCL_SVM_ATOMICS == 1 << (OPENCL_NR_CAPABILITIES - 1),
	       "opencl_capabilities[] follows enum umm_opencl_capability");

static const char *type_name(cl_device_type type)
{
	if (type & CL_DEVICE_TYPE_GPU)
		return "gpu";
	if (type & CL_DEVICE_TYPE_CPU)
		return "cpu";
	if (type & CL_DEVICE_TYPE_ACCELERATOR)
		return "accelerator";
	return type & CL_DEVICE_TYPE_CUSTOM ? "custom" : "other";
}

/* Vendors leave spaces at the end of names. */
static void copy_text(char *to, size_t to_len, const char *from)
{
	size_t len;

	snprintf(to, to_len, "%s", from ? from : "");
	for (len = strlen(to); len && to[len - 1] == ' '; len--)
		to[len - 1] = '\0';
}

static void item_fill(struct opencl_item *item, const struct umm_opencl_info *info)
{
	memset(item, 0, sizeof(*item));
	copy_text(item->platform_name, sizeof(item->platform_name), info->platform_name);
	copy_text(item->platform_version, sizeof(item->platform_version), info->platform_version);
	if (!info->device)
		return;
	copy_text(item->device_name, sizeof(item->device_name), info->device_name);
	copy_text(item->device_version, sizeof(item->device_version), info->device_version);
	copy_text(item->type, sizeof(item->type), type_name(info->type));
	item->global_bytes = info->global_bytes;
	item->max_alloc_bytes = info->max_alloc_bytes;
	item->max_device_bytes = info->max_device_bytes;
	item->default_device_bytes = info->default_device_bytes;
	item->capabilities = info->capabilities;
	item->usable = info->usable;
	copy_text(item->reason, sizeof(item->reason), info->reason);
}

static int item_add(void *priv, const struct umm_opencl_info *info)
{
	struct opencl_report *report = priv;
	struct opencl_item *items;

	items = reallocarray(report->items, report->nitems + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	report->items = items;
	item_fill(&items[report->nitems++], info);
	return 0;
}

/* Returns what stands for standard output meanwhile, or -1 where there is none to keep. */
static int stdout_divert(void)
{
	int saved;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	if (saved >= 0)
		dup2(STDERR_FILENO, STDOUT_FILENO);
	return saved;
}

static void stdout_restore(int saved)
{
	if (saved < 0)
		return;
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
}

/*
 * Where the backend is, or else its bare name. The run path of the executable would do,
 * but sanitizers call dlopen() from a library of their own, which has another.
 */
static const char *backend_find(char *path, size_t path_len)
{
	static const char *const places[] = { "", "backends/opencl/" };
	const char *end;
	Dl_info umm;

	if (!dladdr((void *)umm_version, &umm) || !umm.dli_fname)
		return UMM_OPENCL_SONAME;
	end = strrchr(umm.dli_fname, '/');
	for (size_t i = 0; end && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, path_len, "%.*s/%s%s", (int)(end - umm.dli_fname), umm.dli_fname,
			 places[i], UMM_OPENCL_SONAME);
		if (!access(path, F_OK))
			return path;
	}
	return UMM_OPENCL_SONAME;
}

static void backend_absent(struct opencl_report *report, const char *why)
{
	bool no_loader = strstr(why, "libOpenCL") != NULL;

	snprintf(report->advice, sizeof(report->advice), "%s (%s).",
		 no_loader ? "The OpenCL loader is missing: install it, on Debian with "
			     "'apt-get install ocl-icd-libopencl1'" :
			     "The OpenCL backend is missing: install " UMM_OPENCL_SONAME
			     ", which building libumm with -DUMM_OPENCL=ON gives, beside libumm",
		 why);
}

static int backend_ask(struct opencl_report *report)
{
	__typeof__(umm_opencl_list) *list;
	__typeof__(umm_opencl_advice) *advice;
	char path[PATH_MAX];
	void *backend;
	int ret;

	backend = dlopen(backend_find(path, sizeof(path)), RTLD_NOW | RTLD_LOCAL);
	list = backend ? (__typeof__(list))dlsym(backend, "umm_opencl_list") : NULL;
	advice = list ? (__typeof__(advice))dlsym(backend, "umm_opencl_advice") : NULL;
	if (!advice) {
		const char *why = dlerror();

		backend_absent(report, why ? why : "it is incomplete");
		return 0;
	}
	report->has_backend = true;
	ret = list(item_add, report);
	if (ret == -ENODEV)
		copy_text(report->advice, sizeof(report->advice), advice());
	else if (ret < 0 && ret != -ENOMEM)
		snprintf(report->advice, sizeof(report->advice),
			 "The OpenCL backend could not list devices: %s.", umm_strerror(ret));
	return ret == -ENOMEM ? -ENOMEM : 0;
}

int opencl_read(struct opencl_report *report)
{
	int saved = stdout_divert();
	int ret = backend_ask(report);

	stdout_restore(saved);
	return ret;
}

void opencl_free(struct opencl_report *report)
{
	free(report->items);
}
