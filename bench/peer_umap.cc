/* SPDX-License-Identifier: MIT */
/*
 * UMap at its best: one filler and one evictor (each wake-up less counts), and a buffer for
 * everything, so that nothing is evicted. What the user has set in the environment stays.
 */
#include "peer_umap.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include <umap/store/Store.hpp>
#include <umap/umap.h>

namespace
{

const size_t stamped = 4096;

/* A copy of every page, in memory, as a device has one. */
class RamStore : public Umap::Store
{
      public:
	explicit RamStore(size_t len) : data(static_cast<char *>(std::malloc(len)))
	{
		for (size_t at = 0; data && at < len; at += stamped) {
			std::memset(data + at, 0, stamped);
			std::memcpy(data + at, &at, sizeof(at));
		}
	}
	virtual ~RamStore()
	{
		std::free(data);
	}
	RamStore(const RamStore &) = delete;
	RamStore &operator=(const RamStore &) = delete;

	ssize_t read_from_store(char *buf, std::size_t nb, off_t off) override
	{
		std::memcpy(buf, data + off, nb);
		return static_cast<ssize_t>(nb);
	}
	ssize_t write_to_store(char *buf, std::size_t nb, off_t off) override
	{
		std::memcpy(data + off, buf, nb);
		return static_cast<ssize_t>(nb);
	}

	char *const data;
};

RamStore *store;

} // namespace

char *peer_umap_map(size_t len, size_t page_bytes)
{
	void *memory;

	setenv("UMAP_LOG_LEVEL", "ERROR", 0);
	setenv("UMAP_PAGESIZE", std::to_string(page_bytes).c_str(), 0);
	setenv("UMAP_PAGE_FILLERS", "1", 0);
	setenv("UMAP_PAGE_EVICTORS", "1", 0);
	store = new (std::nothrow) RamStore(len);
	if (!store || !store->data)
		return nullptr;
	memory = Umap::umap_ex(nullptr, len, PROT_READ | PROT_WRITE, UMAP_PRIVATE, -1, 0, store);
	return memory == UMAP_FAILED ? nullptr : static_cast<char *>(memory);
}

void peer_umap_unmap(char *memory, size_t len)
{
	uunmap(memory, len);
	delete store;
	store = nullptr;
}
