/* SPDX-License-Identifier: MIT */
/* See api_world.h. */
#include "api_world.h"

#include <string.h>
#include <sys/mman.h>

/* A device as small as it can be: frames in an array, copies at once. */
char api_frames[API_FRAMES][UMM_PAGE_SIZE];
unsigned api_destroyed, api_released, api_invalidated;

static int copy(void *priv, const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done)
{
	(void)priv;
	for (unsigned i = 0; i < ncopies; i++) {
		const struct umm_copy *c = &copies[i];
		size_t len = (size_t)c->npages * UMM_PAGE_SIZE;

		if (c->dir == UMM_COPY_FROM_DEVICE)
			memcpy(c->host, api_frames[c->frame], len);
		else if (c->host)
			memcpy(api_frames[c->frame], c->host, len);
		else
			memset(api_frames[c->frame], 0, len);
	}
	umm_fence_signal(done, 0, 0);
	return 0;
}

static void destroy(void *priv)
{
	(void)priv;
	api_destroyed++;
}

const struct umm_device_ops api_device_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "array",
	.copy = copy,
	.destroy = destroy,
};

static int invalidate(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	__atomic_fetch_add(&api_invalidated, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void release(void *priv)
{
	(void)priv;
	api_released++;
}

const struct umm_mirror_ops api_mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = invalidate,
	.release = release,
};

const struct umm_devmem_options api_memory = {
	.size = sizeof(api_memory),
	.type = UMM_DEVMEM_PRIVATE,
	.nframes = API_FRAMES,
};

const struct umm_notifier_ops api_notifier_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = invalidate,
};

int world_setup(void **state)
{
	static struct world w;
	void *p;

	*state = &w;
	if (umm_ctx_create(NULL, &w.ctx) ||
	    umm_device_create(w.ctx, &api_device_ops, NULL, UMM_DEVICE_INLINE_COPY, &w.dev) ||
	    umm_devmem_add(w.dev, &api_memory, &w.mem) ||
	    umm_alloc(w.ctx, 8 * UMM_PAGE_SIZE, 0, &p))
		return -1;
	w.p = p;
	for (int i = 0; i < 8; i++)
		memset(w.p + i * UMM_PAGE_SIZE, i + 1, UMM_PAGE_SIZE);
	return 0;
}

int world_teardown(void **state)
{
	struct world *w = *state;

	umm_ctx_put(w->ctx);
	return 0;
}

void assert_data(const struct world *w)
{
	for (int i = 0; i < 8; i++) {
		assert_int_equal(w->p[i * UMM_PAGE_SIZE], i + 1);
		assert_int_equal(w->p[(i + 1) * UMM_PAGE_SIZE - 1], i + 1);
	}
}

void world_extend(struct world *w)
{
	w->plain = mmap(NULL, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	assert_ptr_not_equal(w->plain, MAP_FAILED);
	assert_int_equal(umm_mirror_register(w->dev, &api_mirror_ops, NULL, &w->mirror), 0);
}
