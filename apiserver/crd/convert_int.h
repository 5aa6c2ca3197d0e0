// SPDX-License-Identifier: Apache-2.0
// What the files of conversion by webhook share: whom is asked, and one question.
#pragma once
#include "apiserver/crd/convert.h"
#include "apiserver/crd/crd.h"

struct kl_span;
struct kl_webhook;

// The webhook of a definition as it is in one family.
struct kl_conversion_hook {
    struct kl_conversions *all;
    struct kl_custom_family *family; // referenced
    struct kl_webhook *client;       // made at the first call
    struct kl_map jobs_of;           // struct flying_key → the job that converts it
    struct kl_conversion_job *queue, **queue_end;
    size_t flying, flying_bytes, jobs;
    struct kl_crd_user user;
    bool stale; // the definition changed: goes with its last job
    struct kl_conversion_hook *next, **pprev;
};

struct kl_conversion_item {
    struct kl_kv *kv; // referenced; NULL: an object that is not stored
    const struct kl_resource *from;
    struct kl_object *was;       // referenced
    struct kl_object *converted; // of what is not stored: for the one who waits
    struct kl_error *err;        // why this one cannot be; NULL: it can
};

struct kl_conversion_job {
    struct kl_conversion_hook *hook;
    const struct kl_resource *to;
    struct kl_conversion_item *items;
    size_t n, nbad, bytes, body_bytes;
    struct kl_conversion *waiters;
    struct kl_conversion_job *next; // of the queue
    struct kl_task task;            // fails it, later
    struct kl_req *r;               // of the first that waits, for its trace; NULL: of none
    struct kl_span *span;
    struct kl_error err;
    int64_t began_ns, deadline_ms;
    char uid[37];
    bool sent;
};

// ---- convert_call.c: what is asked, and what is believed of the answer
enum { KL_CONVERSION_KIND_MAX = 600 };
// "example.com/v1, Kind=Widget" into `of`, which the rest refers to.
struct kl_conversion_ask kl_conversion_describe(const struct kl_conversion_job *j,
                                                char of[KL_CONVERSION_KIND_MAX]);
struct kl_bytes *kl_conversion_question(struct kl_conversion_job *j); // NULL: no memory
// Hangs the objects on their versions, or says in j->err and in the items why not.
enum kl_conversion_failure kl_conversion_answer(struct kl_conversion_job *j, int status,
                                                struct kl_str body, const struct kl_error *why);
