// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#ifdef KL_FAULTS
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SITES = 32 };

struct site {
    char name[64];
    long nth, times, calls, hits;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_int nsites; // written under the lock; read without it so that unarmed sites are cheap
static struct site sites[MAX_SITES];

static struct site *find_site(const char *name)
{
    int n = atomic_load_explicit(&nsites, memory_order_relaxed);
    for (int i = 0; i < n; i++) {
        if (strcmp(sites[i].name, name) == 0)
            return &sites[i];
    }
    return NULL;
}

bool kl_fault_point(const char *name)
{
    if (atomic_load_explicit(&nsites, memory_order_relaxed) == 0)
        return false;
    bool fail = false;
    pthread_mutex_lock(&lock);
    struct site *s = find_site(name);
    if (s) {
        s->calls++;
        fail = s->nth > 0 && s->calls >= s->nth && (s->times < 0 || s->calls - s->nth < s->times);
        s->hits += fail;
    }
    pthread_mutex_unlock(&lock);
    return fail;
}

void kl_fault_crash(const char *name)
{
    if (kl_fault_point(name))
        kill(getpid(), SIGKILL); // pending before kill returns: nothing of ours runs after it
}

void kl_fault_set(const char *name, long nth, long times)
{
    pthread_mutex_lock(&lock);
    struct site *s = find_site(name);
    int n = atomic_load_explicit(&nsites, memory_order_relaxed);
    if (!s && (n == MAX_SITES || strlen(name) >= sizeof(s->name)))
        abort(); // a test that arms what cannot fire would pass for nothing
    if (!s) {
        s = &sites[n];
        atomic_store_explicit(&nsites, n + 1, memory_order_relaxed);
    }
    *s = (struct site){.nth = nth, .times = times};
    snprintf(s->name, sizeof(s->name), "%s", name);
    pthread_mutex_unlock(&lock);
}

void kl_fault_clear(void)
{
    pthread_mutex_lock(&lock);
    atomic_store_explicit(&nsites, 0, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

long kl_fault_calls(const char *name)
{
    pthread_mutex_lock(&lock);
    struct site *s = find_site(name);
    long n = s ? s->calls : 0;
    pthread_mutex_unlock(&lock);
    return n;
}

long kl_fault_hits(const char *name)
{
    pthread_mutex_lock(&lock);
    struct site *s = find_site(name);
    long n = s ? s->hits : 0;
    pthread_mutex_unlock(&lock);
    return n;
}

bool kl_fault_built(void)
{
    return true;
}

#else

void kl_fault_set(const char *site, long nth, long times)
{
}

void kl_fault_clear(void)
{
}

long kl_fault_calls(const char *site)
{
    return 0;
}

long kl_fault_hits(const char *site)
{
    return 0;
}

bool kl_fault_built(void)
{
    return false;
}
#endif
