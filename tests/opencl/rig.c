/* SPDX-License-Identifier: MIT */
/*
 * The OpenCL tests' common ground. The library's log is collected, so that tests can ask
 * what was said, and printed where a test fails. One test runs at a time; the log
 * has a lock because library threads write to it.
 */
#include "rig.h"

#include <fnmatch.h>
#include <pthread.h>

#define LOG_BYTES  16384
#define NAME_BYTES 256

static struct {
	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	char text[LOG_BYTES];
	size_t len;
} logged = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void log_line(void *priv, enum umm_log_level level, const char *line)
{
	size_t len = strlen(line);

	(void)priv;
	(void)level;
	pthread_mutex_lock(&logged.lock);
	if (logged.len + len + 2 < LOG_BYTES) {
		memcpy(logged.text + logged.len, line, len);
		logged.len += len;
		logged.text[logged.len++] = '\n';
		logged.text[logged.len] = '\0';
	}
	pthread_mutex_unlock(&logged.lock);
}

bool rig_logged(const char *text)
{
	bool found;

	pthread_mutex_lock(&logged.lock);
	found = logged.len && strstr(logged.text, text) != NULL;
	logged.len = 0;
	logged.text[0] = '\0';
	pthread_mutex_unlock(&logged.lock);
	return found;
}

static void log_show(void)
{
	pthread_mutex_lock(&logged.lock);
	if (logged.len)
		printf("log: %s", logged.text);
	logged.len = 0;
	logged.text[0] = '\0';
	pthread_mutex_unlock(&logged.lock);
}

static int find_usable(void *priv, const struct umm_opencl_info *info)
{
	if (!info->device || info->usable)
		return 0;
	snprintf(priv, NAME_BYTES, "%s", info->device_name);
	return 1;
}

const char *rig_device_name(void)
{
	static char found[NAME_BYTES];
	const char *name = getenv("UMM_TEST_OPENCL");

	if (name && *name)
		return name;
	if (!*found)
		umm_opencl_list(find_usable, found);
	return *found ? found : NULL;
}

int rig_run(const char *group, const struct CMUnitTest *tests, size_t ntests, const char *pattern)
{
	struct CMUnitTest *chosen = calloc(ntests, sizeof(*chosen));
	size_t n = 0;
	int failed;

	if (!chosen)
		return 1;
	for (size_t i = 0; i < ntests; i++)
		if (!pattern || !fnmatch(pattern, tests[i].name, 0))
			chosen[n++] = tests[i];
	if (n)
		failed = _cmocka_run_group_tests(group, chosen, n, NULL, NULL);
	else
		failed = fprintf(stderr, "%s: no test is named like %s\n", group, pattern) != 0;
	free(chosen);
	return failed;
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	if (!rig)
		return -1;
	*state = rig;
	umm_log_set(log_line, NULL, UMM_LOG_INFO);
	rig_logged("");
	return 0;
}

void rig_close_kernels(struct rig *rig)
{
	while (rig->nkernels)
		clReleaseKernel(rig->kernels[--rig->nkernels]);
}

void rig_close(struct rig *rig)
{
	rig_close_kernels(rig);
	if (rig->program)
		clReleaseProgram(rig->program);
	rig->program = NULL;
	umm_opencl_destroy(rig->ocl);
	rig->ocl = NULL;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	log_show();
	rig_close(rig);
	umm_ctx_put(rig->ctx);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	free(rig);
	return 0;
}

/* Opens the context, if that was not done before. */
static void need_ctx(struct rig *rig)
{
	/* Tests count the pages that come home: nothing comes that was not touched. */
	struct umm_ctx_options options = { .size = sizeof(options),
					   .readahead = UMM_READAHEAD_OFF };
	int ret = rig->ctx ? 0 : umm_ctx_create(&options, &rig->ctx);

	if (ret == -EPERM || ret == -EOPNOTSUPP)
		rig_skip("no userfaultfd: %s", umm_strerror(ret));
	assert_int_equal(ret, 0);
}

void rig_open(struct rig *rig, size_t device_bytes, const struct umm_opencl_options *options)
{
	struct umm_opencl_options ours = { .size = sizeof(ours) };
	int ret;

	if (!rig_device_name())
		rig_skip("%s", umm_opencl_advice());
	need_ctx(rig);
	if (options)
		ours = *options;
	ours.device_bytes = device_bytes;
	if (!ours.queue && !ours.context && !ours.device)
		ours.device_name = rig_device_name();
	ret = umm_opencl_create(rig->ctx, &ours, &rig->ocl);
	if (ret == -ENODEV)
		rig_skip("there is no OpenCL device '%s'", rig_device_name());
	assert_int_equal(ret, 0);
}

const struct umm_opencl_options rig_exact = {
	.size = sizeof(rig_exact), .readahead = 1, /* less than a page: none */
};

void rig_open_counting(struct rig *rig, size_t device_bytes)
{
	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, device_bytes, &rig_exact);
	rig_build(rig);
}

static char *read_file(const char *path)
{
	char *text = calloc(1, MIB);
	FILE *file = fopen(path, "r");

	assert_non_null(text);
	assert_non_null(file);
	assert_true(fread(text, 1, MIB - 1, file) > 0);
	fclose(file);
	return text;
}

void rig_build(struct rig *rig)
{
	rig_build_file(rig, RIG_KERNELS);
}

void rig_build_file(struct rig *rig, const char *path)
{
	char *source = read_file(path);
	int ret = umm_opencl_build(rig->ocl, source, NULL, &rig->program, NULL);

	free(source);
	assert_int_equal(ret, 0);
}

cl_kernel rig_kernel(struct rig *rig, const char *name)
{
	cl_int err;
	cl_kernel kernel = clCreateKernel(rig->program, name, &err);

	assert_int_equal(err, CL_SUCCESS);
	assert_true(rig->nkernels < sizeof(rig->kernels) / sizeof(rig->kernels[0]));
	rig->kernels[rig->nkernels++] = kernel;
	return kernel;
}

void rig_ulong(cl_kernel kernel, cl_uint i, uint64_t value)
{
	cl_ulong arg = value;

	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + i, sizeof(arg), &arg),
			 CL_SUCCESS);
}

void rig_uint(cl_kernel kernel, cl_uint i, uint32_t value)
{
	cl_uint arg = value;

	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + i, sizeof(arg), &arg),
			 CL_SUCCESS);
}

int rig_try(struct rig *rig, cl_kernel kernel, size_t items, struct umm_opencl_result *result)
{
	struct umm_opencl_work work = {
		.size = sizeof(work),
		.flags = rig->flags,
		.kernel = kernel,
		.dims = 1,
		.global = &items,
	};

	memset(result, 0, sizeof(*result));
	result->size = sizeof(*result);
	return umm_opencl_launch(rig->ocl, &work, result);
}

struct umm_opencl_result rig_launch(struct rig *rig, cl_kernel kernel, size_t items)
{
	struct umm_opencl_result result;

	assert_int_equal(rig_try(rig, kernel, items, &result), 0);
	assert_int_equal(result.items, items);
	assert_false(result.fault_valid);
	return result;
}

void *rig_alloc(struct rig *rig, size_t len)
{
	void *addr;

	need_ctx(rig);
	assert_int_equal(umm_alloc(rig->ctx, len, UMM_ALLOC_SMALL_PAGES, &addr), 0);
	return addr;
}

uint32_t *rig_numbered(struct rig *rig, size_t npages)
{
	uint32_t *words = rig_alloc(rig, npages * PAGE);

	for (size_t i = 0; i < npages * PAGE / 4; i++)
		words[i] = (uint32_t)i;
	return words;
}

cl_kernel rig_map(struct rig *rig, const uint32_t *in, const uint32_t *out)
{
	cl_kernel kernel = rig_kernel(rig, "map");

	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)out);
	return kernel;
}

static struct umm_stats device_stats(struct rig *rig)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_device_stats(umm_opencl_device(rig->ocl), &stats), 0);
	return stats;
}

uint64_t rig_count(struct rig *rig, unsigned counter)
{
	return device_stats(rig).counter[counter];
}

uint64_t rig_device_pages(struct rig *rig)
{
	return device_stats(rig).device_pages;
}

size_t rig_pages_in(struct rig *rig, const void *start, size_t len, enum umm_page_state state)
{
	struct umm_page_info info;
	size_t n = 0;

	for (size_t at = 0; at < len; at += PAGE) {
		assert_int_equal(umm_query(rig->ctx, (uintptr_t)start + at, 1, &info), 0);
		n += info.state == state;
	}
	return n;
}

uint64_t rig_sum(const uint32_t *words, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += words[i];
	return sum;
}

static int find_waiting(void *priv, const struct umm_opencl_info *info)
{
	bool *found = priv;

	*found |= info->device && strstr(info->device_name, rig_device_name()) &&
		  info->capabilities & UMM_OPENCL_SVM_ATOMICS;
	return 0;
}

bool rig_can_wait(void)
{
	const char *wanted = getenv("UMM_OPENCL_WAIT");
	bool found = false;

	if (rig_device_name())
		umm_opencl_list(find_waiting, &found);
	return found && (!wanted || strcmp(wanted, "never") != 0);
}

bool rig_is_at_once(void)
{
	return rig_device_name() && strstr(rig_device_name(), "basic");
}

cl_event rig_gate_new(struct rig *rig)
{
	cl_int err;
	cl_event gate = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), &err);

	assert_int_equal(err, CL_SUCCESS);
	if (rig_is_at_once())
		clSetUserEventStatus(gate, CL_COMPLETE);
	return gate;
}

void rig_gate_open(cl_event gate)
{
	if (!rig_is_at_once())
		assert_int_equal(clSetUserEventStatus(gate, CL_COMPLETE), CL_SUCCESS);
}

cl_int rig_state_of(cl_event event)
{
	cl_int state = CL_QUEUED;

	assert_int_equal(clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state),
					&state, NULL),
			 CL_SUCCESS);
	return state;
}

bool rig_sleeps(int tid)
{
	char path[64], state = 'R';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	stat = fopen(path, "r");
	if (!stat)
		return false;
	/* Names of threads in these tests have no spaces. */
	if (fscanf(stat, "%*d %*s %c", &state) != 1)
		state = 'R';
	fclose(stat);
	return state == 'S' || state == 'D';
}
