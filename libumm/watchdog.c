/* SPDX-License-Identifier: MIT */
/*
 * The watchdog of migrations in steps. Pages that a driver has set up belong to nobody until it
 * finalizes: who touches one waits. A driver that has not done so in time (it failed, it forgot)
 * has its migration undone, by a thread that starts with the first migration in steps. The driver
 * may find that out later, or never.
 *
 * The thread sleeps until the first deadline that it knows of. Deadlines are handed out in order,
 * so it need not be woken for a new one unless it knows of none.
 *
 * Invariant: a watched is worked on by one thread at a time, the driver's or this one, and is in
 * the list until its driver finalizes it or the context closes.
 * Locks: its own, with nothing else; nothing is locked while a migration is undone.
 */
#include "watchdog.h"

#include "log.h"
#include "signals.h"
#include "util.h"
#include "work.h"

#define NEVER UINT64_MAX

/* The next one to undo that nobody works on; NULL: there is none. */
static struct watched *first_due(const struct watchdog *dog)
{
	struct watched *first = NULL;

	for (struct watched *at = dog->list; at; at = at->next)
		if (!at->held && at->deadline_ns < (first ? first->deadline_ns : NEVER))
			first = at;
	return first;
}

static void take(struct watchdog *dog, struct watched *watched) UMM_REQUIRES(&dog->lock)
{
	dog->waiters++;
	while (watched->held)
		lock_wait(&dog->lock, &dog->changed);
	dog->waiters--;
	watched->held = true;
}

static void give(struct watchdog *dog, struct watched *watched) UMM_REQUIRES(&dog->lock)
{
	watched->held = false;
	if (dog->waiters || watched->deadline_ns < dog->sleeps_until)
		pthread_cond_broadcast(&dog->changed);
}

static void undo(struct watchdog *dog, struct watched *watched) UMM_REQUIRES(&dog->lock)
{
	watched->held = true;
	watched->deadline_ns = NEVER;
	lock_drop(&dog->lock);
	step_undo(watched);
	lock_take(&dog->lock);
	give(dog, watched);
}

static void *watchdog_main(void *arg)
{
	struct watchdog *dog = arg;
	struct watched *due;

	signals_hold();
	lock_take(&dog->lock);
	while (!dog->stop) {
		due = first_due(dog);
		if (due && due->deadline_ns <= now_ns()) {
			undo(dog, due);
			continue;
		}
		dog->sleeps_until = due ? due->deadline_ns : NEVER;
		if (due)
			lock_wait_until(&dog->lock, &dog->changed, due->deadline_ns);
		else
			lock_wait(&dog->lock, &dog->changed);
		dog->sleeps_until = 0;
	}
	lock_drop(&dog->lock);
	return NULL;
}

void watchdog_init(struct watchdog *dog, uint64_t limit_ns)
{
	dog->limit_ns = limit_ns;
	lock_init(&dog->lock, RANK_WORK);
	lock_cond_init(&dog->changed);
}

void watchdog_fini(struct watchdog *dog)
{
	struct watched *watched;

	lock_take(&dog->lock);
	dog->stop = true;
	pthread_cond_broadcast(&dog->changed);
	lock_drop(&dog->lock);
	if (dog->running)
		pthread_join(dog->thread, NULL);
	while ((watched = dog->list)) {
		dog->list = watched->next;
		step_abandon(watched);
	}
	pthread_cond_destroy(&dog->changed);
	lock_fini(&dog->lock);
}

void watchdog_watch(struct watchdog *dog, struct watched *watched)
{
	bool wanted = dog->limit_ns != NEVER;

	watched->deadline_ns = wanted ? now_ns() + dog->limit_ns : NEVER;
	lock_take(&dog->lock);
	watched->next = dog->list;
	dog->list = watched;
	if (wanted && !dog->running)
		dog->running = !thread_start(&dog->thread, watchdog_main, dog, "umm-watchdog");
	if (wanted && !dog->running)
		log_warning("no thread to watch over migrations: one that is never finalized is "
			    "never undone");
	if (watched->deadline_ns < dog->sleeps_until)
		pthread_cond_broadcast(&dog->changed);
	lock_drop(&dog->lock);
}

void watchdog_hold(struct watchdog *dog, struct watched *watched)
{
	lock_take(&dog->lock);
	take(dog, watched);
	lock_drop(&dog->lock);
}

void watchdog_let(struct watchdog *dog, struct watched *watched)
{
	lock_take(&dog->lock);
	give(dog, watched);
	lock_drop(&dog->lock);
}

void watchdog_forget(struct watchdog *dog, struct watched *watched)
{
	struct watched **link;

	lock_take(&dog->lock);
	for (link = &dog->list; *link != watched; link = &(*link)->next)
		;
	*link = watched->next;
	lock_drop(&dog->lock);
}
