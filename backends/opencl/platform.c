/* SPDX-License-Identifier: MIT */
/*
 * Walks the OpenCL platforms of this machine: for umm_opencl_list(), and to choose
 * a device by name or type. Every walk asks anew, for a loader may offer more later.
 * The only state is which process that was.
 *
 * Compilers made of LLVM (PoCL's, when the platform is first asked for) put handlers over the
 * program's, which on SIGBUS remove the files that are being written, and themselves until the
 * next file. In a context of UMM_CTX_FAULTS_IN_THREAD a SIGBUS is a fault like any other, and a
 * build meanwhile would fail. So the handler that was there before is put back over theirs: they
 * take theirs to be there from then on. What another thread of the program, or a context that it
 * opens, puts over theirs meanwhile stays. What is under theirs is not known; so where there was no
 * handler before, theirs stays, and passes on to one that has come since.
 *
 * Locks: loading, so that no thread takes theirs for the program's. Inside: none.
 */
#define CL_TARGET_OPENCL_VERSION 200 /* to ask for SVM; no function newer than 1.2 is called */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "platform.h"
#include "report.h"

#define NAME_BYTES 256

const char *umm_opencl_advice(void)
{
	return "no OpenCL platform was found: install one (Debian: apt-get install "
	       "pocl-opencl-icd for the CPU, or the driver package of your GPU), and check that "
	       "OCL_ICD_VENDORS, if it is set, names a directory with .icd files";
}

/* A directory in which this process may create files, or could create it: its nearest parent. */
static bool may_write(char *path)
{
	char *slash;

	while (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS)) {
		slash = strrchr(path, '/');
		if (errno != ENOENT || !slash || slash == path)
			return false;
		*slash = '\0';
	}
	return true;
}

/* PoCL offers no device where it cannot keep the kernels that it has compiled. NULL: it can. */
static const char *cache_advice(void)
{
	const char *cache = getenv("POCL_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");
	char path[PATH_MAX];

	if (cache)
		snprintf(path, sizeof(path), "%s", cache);
	else if (xdg)
		snprintf(path, sizeof(path), "%s/pocl", xdg);
	else if (home)
		snprintf(path, sizeof(path), "%s/.cache/pocl", home);
	else
		return NULL;
	return may_write(path) ? NULL :
				 "PoCL may not write to its kernel cache (POCL_CACHE_DIR, or below "
				 "XDG_CACHE_HOME or HOME): set POCL_CACHE_DIR to a directory that "
				 "this user may write to";
}

static uint64_t device_number(cl_device_id device, cl_device_info what, size_t len)
{
	cl_ulong value = 0;

	if (clGetDeviceInfo(device, what, len, &value, NULL) != CL_SUCCESS)
		return 0;
	return value;
}

static uint64_t device_uint(cl_device_id device, cl_device_info what)
{
	return device_number(device, what, sizeof(cl_uint));
}

static void device_string(cl_device_id device, cl_device_info what, char *out)
{
	if (clGetDeviceInfo(device, what, NAME_BYTES, out, NULL) != CL_SUCCESS)
		out[0] = '\0';
	out[NAME_BYTES - 1] = '\0';
}

static void platform_string(cl_platform_id platform, cl_platform_info what, char *out)
{
	if (clGetPlatformInfo(platform, what, NAME_BYTES, out, NULL) != CL_SUCCESS)
		out[0] = '\0';
	out[NAME_BYTES - 1] = '\0';
}

static bool device_has(cl_device_id device, const char *extension)
{
	size_t len = 0;
	bool found;
	char *all;

	if (clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, 0, NULL, &len) != CL_SUCCESS)
		return false;
	all = calloc(1, len + 1);
	if (!all)
		return false;
	clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, len, all, NULL);
	found = strstr(all, extension) != NULL;
	free(all);
	return found;
}

bool platform_at_least(cl_device_id device, int want_major, int want_minor)
{
	char version[NAME_BYTES];
	int major, minor;

	device_string(device, CL_DEVICE_VERSION, version);
	if (sscanf(version, "OpenCL %d.%d", &major, &minor) != 2)
		return false;
	return major > want_major || (major == want_major && minor >= want_minor);
}

bool platform_completes_in_caller(cl_device_id device)
{
	cl_platform_id platform = NULL;
	char name[NAME_BYTES];

	device_string(device, CL_DEVICE_NAME, name);
	if (strncmp(name, "basic", strlen("basic")) != 0)
		return false;
	clGetDeviceInfo(device, CL_DEVICE_PLATFORM, sizeof(cl_platform_id), &platform, NULL);
	platform_string(platform, CL_PLATFORM_NAME, name);
	return strcmp(name, "Portable Computing Language") == 0;
}

int platform_check(cl_device_id device, const char **reason)
{
	const char *why = "";

	if (!device_uint(device, CL_DEVICE_AVAILABLE))
		why = "the device is not available";
	else if (!device_uint(device, CL_DEVICE_COMPILER_AVAILABLE))
		why = "its platform has no compiler for OpenCL C";
	else if (!platform_at_least(device, 1, 2))
		why = "it is older than OpenCL 1.2";
	else if (!device_uint(device, CL_DEVICE_ENDIAN_LITTLE))
		why = "its byte order is not that of the CPU";
	if (reason)
		*reason = why;
	return *why ? -EOPNOTSUPP : 0;
}

static uint64_t svm_capabilities(cl_device_id device)
{
	return device_number(device, CL_DEVICE_SVM_CAPABILITIES,
			     sizeof(cl_device_svm_capabilities));
}

void platform_limits(cl_device_id device, struct platform_limits *limits)
{
	uint64_t page_mask = ~(uint64_t)(UMM_PAGE_SIZE - 1);
	uint64_t global = device_number(device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
	uint64_t alloc = device_number(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
	uint64_t most = PLATFORM_MAX_POOLS * (alloc & page_mask);
	uint64_t svm = svm_capabilities(device);

	limits->global_bytes = global;
	limits->max_alloc_bytes = alloc;
	limits->max_device_bytes = (most < global ? most : global) & page_mask;
	limits->default_device_bytes = (alloc < global / 2 ? alloc : global / 2) & page_mask;
	limits->fine_grain = svm & CL_DEVICE_SVM_FINE_GRAIN_BUFFER;
	limits->atomics = limits->fine_grain && svm & CL_DEVICE_SVM_ATOMICS;
	limits->unified = device_uint(device, CL_DEVICE_HOST_UNIFIED_MEMORY);
	limits->units = (uint32_t)device_uint(device, CL_DEVICE_MAX_COMPUTE_UNITS);
}

static uint32_t capabilities(cl_device_id device)
{
	uint64_t svm = svm_capabilities(device);
	uint32_t bits = 0;

	if (!platform_check(device, NULL))
		bits |= UMM_OPENCL_PAGING;
	if (device_has(device, "cl_khr_fp64"))
		bits |= UMM_OPENCL_DOUBLE;
	if (device_has(device, "cl_khr_int64_base_atomics"))
		bits |= UMM_OPENCL_ATOMIC64;
	if (svm & CL_DEVICE_SVM_COARSE_GRAIN_BUFFER)
		bits |= UMM_OPENCL_SVM_COARSE;
	if (svm & CL_DEVICE_SVM_FINE_GRAIN_BUFFER)
		bits |= UMM_OPENCL_SVM_FINE_BUFFER;
	if (svm & CL_DEVICE_SVM_FINE_GRAIN_SYSTEM)
		bits |= UMM_OPENCL_SVM_FINE_SYSTEM;
	if (svm & CL_DEVICE_SVM_FINE_GRAIN_BUFFER && svm & CL_DEVICE_SVM_ATOMICS)
		bits |= UMM_OPENCL_SVM_ATOMICS;
	return bits;
}

/* Calls fn until it answers something other than 0, which is then the answer. */
typedef int (*visit_fn)(void *priv, const struct umm_opencl_info *info);

static int visit_device(struct umm_opencl_info *info, cl_device_id device, visit_fn fn, void *priv)
{
	char name[NAME_BYTES], version[NAME_BYTES];
	struct platform_limits limits;
	cl_device_type type = 0;

	device_string(device, CL_DEVICE_NAME, name);
	device_string(device, CL_DEVICE_VERSION, version);
	clGetDeviceInfo(device, CL_DEVICE_TYPE, sizeof(type), &type, NULL);
	platform_limits(device, &limits);
	info->device = device;
	info->type = type;
	info->device_name = name;
	info->device_version = version;
	info->global_bytes = limits.global_bytes;
	info->max_alloc_bytes = limits.max_alloc_bytes;
	info->max_device_bytes = limits.max_device_bytes;
	info->default_device_bytes = limits.default_device_bytes;
	info->capabilities = capabilities(device);
	info->usable = platform_check(device, &info->reason);
	return fn(priv, info);
}

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

/* Where the program or library that has this address begins; NULL: it is of none. */
static const void *object_of(const void *address)
{
	Dl_info info;

	return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* Is it neither the program's own handler nor one of libumm's? */
static bool is_of_platform(const struct sigaction *action)
{
	const void *object = object_of((const void *)(uintptr_t)action->sa_handler);

	return object && object != object_of((const void *)getauxval(AT_ENTRY)) &&
	       object != object_of((const void *)(uintptr_t)umm_handle_sigbus);
}

static void loading_begin(struct sigaction *before)
{
	pthread_mutex_lock(&loading);
	sigaction(SIGBUS, NULL, before);
}

static void loading_end(const struct sigaction *before)
{
	struct sigaction after;

	sigaction(SIGBUS, NULL, &after);
	if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN &&
	    after.sa_handler != before->sa_handler && is_of_platform(&after))
		sigaction(SIGBUS, before, NULL);
	pthread_mutex_unlock(&loading);
}

static cl_int get_platforms(cl_uint most, cl_platform_id *platforms, cl_uint *count)
{
	struct sigaction before;
	cl_int err;

	loading_begin(&before);
	err = clGetPlatformIDs(most, platforms, count);
	loading_end(&before);
	return err;
}

static cl_int get_devices(cl_platform_id platform, cl_uint most, cl_device_id *devices,
			  cl_uint *count)
{
	struct sigaction before;
	cl_int err;

	loading_begin(&before);
	err = clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, most, devices, count);
	loading_end(&before);
	return err;
}

static int visit_platform(cl_platform_id platform, visit_fn fn, void *priv, int *ndevices)
{
	char name[NAME_BYTES], version[NAME_BYTES];
	struct umm_opencl_info info;
	cl_device_id *devices;
	cl_uint count = 0;
	int ret = 0;

	platform_string(platform, CL_PLATFORM_NAME, name);
	platform_string(platform, CL_PLATFORM_VERSION, version);
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	info.platform = platform;
	info.platform_name = name;
	info.platform_version = version;
	if (get_devices(platform, 0, NULL, &count) != CL_SUCCESS || !count) {
		info.device_name = info.device_version = "";
		info.usable = -ENODEV;
		info.reason = cache_advice();
		if (!info.reason)
			info.reason = "the platform offers no device (rusticl: set "
				      "RUSTICL_ENABLE=llvmpipe or the name of the driver)";
		return fn(priv, &info);
	}
	devices = calloc(count, sizeof(cl_device_id));
	if (!devices)
		return -ENOMEM;
	get_devices(platform, count, devices, NULL);
	for (cl_uint i = 0; i < count && !ret; i++) {
		ret = visit_device(&info, devices[i], fn, priv);
		++*ndevices;
	}
	free(devices);
	return ret;
}

/* The number of devices visited; what fn answered; -ENODEV no platform. */
static int visit_all(visit_fn fn, void *priv)
{
	cl_platform_id *platforms;
	cl_uint count = 0;
	int ndevices = 0;
	int ret = 0;

	if (get_platforms(0, NULL, &count) != CL_SUCCESS || !count) {
		report(UMM_LOG_INFO, "%s", umm_opencl_advice());
		return -ENODEV;
	}
	platforms = calloc(count, sizeof(cl_platform_id));
	if (!platforms)
		return -ENOMEM;
	get_platforms(count, platforms, NULL);
	for (cl_uint i = 0; i < count && !ret; i++)
		ret = visit_platform(platforms[i], fn, priv, &ndevices);
	free(platforms);
	return ret ? ret : ndevices;
}

bool platform_is_parents(void)
{
	static _Atomic pid_t owner;
	pid_t self = getpid(), first = 0;

	if (atomic_compare_exchange_strong(&owner, &first, self) || first == self)
		return false;
	report(UMM_LOG_ERROR, "OpenCL does not survive fork(), and a parent of this process has "
			      "used it: use it in children only, or in programs that they exec()");
	return true;
}

int umm_opencl_list(int (*fn)(void *priv, const struct umm_opencl_info *info), void *priv)
{
	if (!fn)
		return -EINVAL;
	if (platform_is_parents())
		return -ENODEV;
	return visit_all(fn, priv);
}

struct choice {
	const struct umm_opencl_options *options;
	cl_device_id device;
	const char *reason; /* of the last one that fits, but is not usable */
	char seen[400];	    /* names of all devices, for the message */
};

static bool contains(const char *name, const char *part)
{
	return !part || strcasestr(name, part) != NULL;
}

static void note_seen(struct choice *choice, const char *name)
{
	size_t len = strlen(choice->seen);

	snprintf(choice->seen + len, sizeof(choice->seen) - len, "%s'%s'", len ? ", " : "", name);
}

static int choose_visit(void *priv, const struct umm_opencl_info *info)
{
	struct choice *choice = priv;
	const struct umm_opencl_options *options = choice->options;

	if (!info->device)
		return 0;
	note_seen(choice, info->device_name);
	if (!contains(info->platform_name, options->platform_name) ||
	    !contains(info->device_name, options->device_name) ||
	    (options->type && !(info->type & options->type)))
		return 0;
	if (info->usable) {
		choice->reason = info->reason;
		return 0;
	}
	choice->device = info->device;
	return 1;
}

static void report_no_fit(const struct choice *choice)
{
	const struct umm_opencl_options *options = choice->options;
	const char *advice = cache_advice();
	char type[32] = "any";

	if (options->type)
		snprintf(type, sizeof(type), "0x%llx", (unsigned long long)options->type);
	if (!advice)
		advice = "rusticl: set RUSTICL_ENABLE=llvmpipe";
	report(UMM_LOG_ERROR,
	       "no device fits (platform: %s, device: %s, type: %s); there are: %s%s%s",
	       options->platform_name ? options->platform_name : "any",
	       options->device_name ? options->device_name : "any", type,
	       *choice->seen ? choice->seen : "none (", *choice->seen ? "" : advice,
	       *choice->seen ? "" : ")");
}

int platform_choose(const struct umm_opencl_options *options, cl_device_id *out)
{
	struct choice choice = { .options = options };
	int ret = visit_all(choose_visit, &choice);

	if (ret < 0) {
		if (ret == -ENODEV)
			report(UMM_LOG_ERROR, "%s", umm_opencl_advice());
		return ret;
	}
	if (choice.device) {
		*out = choice.device;
		return 0;
	}
	if (choice.reason) {
		report(UMM_LOG_ERROR, "no device will do: %s", choice.reason);
		return -EOPNOTSUPP;
	}
	report_no_fit(&choice);
	return -ENODEV;
}
