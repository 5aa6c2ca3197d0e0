// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "apiserver/auth/exec.h"
#include "base/loop.h"
#include <pthread.h>
#include <stdatomic.h>

// Immutable, counted by any thread.
struct kl_exec_cred {
    atomic_uint refs;
    char *authorization; // NULL: none
    char *cert, *key;    // PEM; NULL: none
    int64_t expires_ms;  // since 1970; 0: never
};
struct kl_exec_cred *kl_exec_cred_ref(struct kl_exec_cred *c);
void kl_exec_cred_unref(struct kl_exec_cred *c); // accepts NULL

enum kl_exec_mode { KL_EXEC_NEVER, KL_EXEC_IF_AVAILABLE, KL_EXEC_ALWAYS };

// Somebody who waits for credentials, on a loop.
struct kl_exec_wait {
    struct kl_exec_wait *next, **pprev; // under the lock, until it is told
    struct kl_loop *loop;
    struct kl_task task;
    struct kl_exec_cred *cred; // NULL: err
    struct kl_error err;
    void (*cb)(void *arg, struct kl_exec_cred *cred, const struct kl_error *err); // NULL: gave up
    void *arg;
};

struct kl_exec {
    atomic_uint refs;
    struct kl_arena arena; // of what never changes
    const char *api_version, *command, *hint;
    char **argv;   // with a NULL at the end
    char **env;    // "NAME=value", with a NULL at the end
    char *info[2]; // KUBERNETES_EXEC_INFO=..., [1]: interactive
    enum kl_exec_mode mode;

    pthread_mutex_t mu;
    struct kl_exec_cred *cred;
    struct kl_exec_wait *waits;
    bool running, joinable; // a thread
    pthread_t thread;
    int wake; // eventfd: end
    // the thread's
    int hints;
    int64_t hints_since_ms;
};

// Credentials at once (*ret_cred, referenced), or later: then *ret_wait is there until the
// callback, on this loop. Negative: neither.
int kl_exec_get(struct kl_exec *x, struct kl_loop *loop,
                void (*cb)(void *arg, struct kl_exec_cred *cred, const struct kl_error *err),
                void *arg, struct kl_exec_wait **ret_wait, struct kl_exec_cred **ret_cred,
                struct kl_error *err);
void kl_exec_give_up(struct kl_exec *x, struct kl_exec_wait *w); // no callback any more
// A server did not take these: new ones are made, unless they have been already.
void kl_exec_refresh(struct kl_exec *x, const struct kl_exec_cred *refused);

// ---- exec_run.c, on the thread: one run, and what its output says. Negative: nothing was got.
int kl_exec_run(struct kl_exec *x, struct kl_exec_cred **ret, struct kl_error *err);
// An ExecCredential of that version into `c`, which is empty; on failure some of it may be there.
int kl_exec_read_output(struct kl_arena *a, struct kl_str text, const char *api_version,
                        struct kl_exec_cred *c, struct kl_error *err);
