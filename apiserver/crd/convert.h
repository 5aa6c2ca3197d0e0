// SPDX-License-Identifier: Apache-2.0
// Conversion of custom objects by the webhook of their definition. Nobody waits inside: what is not
// there yet is asked for, and the caller goes on when it has come. Objects that are asked for
// together are one call, objects that somebody else has asked for are not asked for again, and what
// came is kept with the stored version (watchcache/forms.c), so that a hundred watchers are one
// call. Everything belongs to one loop.
//
// Limits, for each definition on each loop: 64 calls and 16 MiB of questions under way; what comes
// on top waits without a text of its own, and fails with the rest after 30 s.
#pragma once
#include "apiserver/server_int.h"
#include "object/custom.h"

struct kl_conversions;
struct kl_conversion_job;

enum { KL_CONVERSION_TIMEOUT_MS = 30000 };

// Somebody who waits; embedded, zeroed.
struct kl_conversion {
    // Once, later, never from within the function that began it. Negative: err has upstream's words
    // ("conversion webhook for example.com/v1, Kind=Widget failed: ...").
    void (*done)(struct kl_conversion *c, int code, const struct kl_error *err);
    // Whose trace shows the call, or NULL. One that says so waits until `done`.
    struct kl_req *r;
    struct kl_object *object; // kl_convert_object's result, one reference; the caller's

    // its own
    struct kl_api_loop *al;
    const struct kl_resource *res;
    struct kl_kv **kvs; // referenced
    size_t n, at;
    struct kl_conversion_job *job; // it waits for; NULL: it does not wait
    struct kl_conversion *next, **pprev;
};

// Has these versions converted to that of `res`, where they are not (kl_cache_is_ready). 0: all are
// there, nothing comes. 1: `done` comes. Negative: err, nothing comes. The rows of `res` are kept
// by whoever waits.
int kl_convert_versions(struct kl_api_loop *al, const struct kl_resource *res, struct kl_kv **kvs,
                        size_t n, struct kl_conversion *c, struct kl_error *err);
// Has one object that is not stored converted; always a call. 1 or negative as above.
int kl_convert_object(struct kl_api_loop *al, const struct kl_resource *from,
                      const struct kl_resource *to, const struct kl_object *o,
                      struct kl_conversion *c, struct kl_error *err);
// Waits no more; harmless when it does not.
void kl_conversion_cancel(struct kl_conversion *c);

// ---- convert_req.c: for one request. True: `then` comes, later, when the version can be read in
// the version of `res` (code negative and r->fail set: it cannot). False: it can be already.
bool kl_req_convert(struct kl_req *r, const struct kl_resource *res, struct kl_kv *kv,
                    void (*then)(void *arg, int code), void *arg);
// What a conversion that failed is as a request's failure: upstream's plain error.
void kl_conversion_fail(struct kl_req *r, const struct kl_error *err);

// ---- convert_memo.c: for code that cannot wait and is run again
// An untyped root in another version. KL_EAGAIN: it is on its way; give up, wait with
// kl_req_convert_again, and begin again: the same question has its answer then. `arg` is the
// request: kl_managed_env.convert.
int kl_req_convert_tree(void *arg, const struct kl_resource *from, const struct kl_resource *to,
                        const struct kl_value *in, struct kl_value *ret, struct kl_error *err);
// The same for an object, with the owners of fields that it has; also where no webhook is needed.
// One reference; NULL: err says why, KL_EAGAIN as above.
struct kl_object *kl_req_convert_object(struct kl_req *r, const struct kl_resource *from,
                                        const struct kl_resource *to, struct kl_object *o,
                                        struct kl_error *err);
// The same for a stored version, which is ready then. KL_EAGAIN, or 0: it is ready already.
int kl_req_want_version(struct kl_req *r, const struct kl_resource *res, struct kl_kv *kv,
                        struct kl_error *err);
// True: `then` comes, later, when all that was asked for has come. False: nothing is on its way.
bool kl_req_convert_again(struct kl_req *r, void (*then)(void *arg), void *arg);
bool kl_req_convert_pending(const struct kl_req *r); // whether something is
void kl_req_forget_conversions(struct kl_req *r);    // the request ends

void kl_conversions_fini(struct kl_api_loop *al); // nobody waits any more

// ---- convert_metrics.c: of all loops
struct kl_conversion_metrics;
int kl_conversion_metrics_new(struct kl_conversion_metrics **ret); // KL_ENOMEM
void kl_conversion_metrics_free(struct kl_conversion_metrics *m);  // accepts NULL
// One call is over. Any thread.
void kl_conversion_observe(struct kl_apiserver *s, const char *definition, const char *from,
                           const char *to, enum kl_conversion_failure failure, int64_t took_us);
void kl_conversion_metrics_write(struct kl_apiserver *s, struct kl_buf *out);
