// SPDX-License-Identifier: Apache-2.0
// Questions of authentication and authorisation that only the network can answer: token and
// authorisation webhooks, keys of OIDC issuers.
//
// Who asks does not wait inside: kl_authenticate and kl_authorize answer at once from what is
// known. When something is missing they begin to fetch it, say no, and leave a mark in the
// request's kl_ask; kl_ask_wait then calls back when the answer has come, and the question is asked
// again from the start. A request remembers the answers it got (struct kl_ask), so that the second
// time goes through even when nothing may be cached; what may be is kept by the loop, bounded in
// number and bytes, the longest unused going first. What needs no network (certificates, service
// account tokens, RBAC) never comes here.
//
// Equal questions of one loop are one call. Everything belongs to one loop.
#pragma once
#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include <stdbool.h>

struct kl_api_loop;
struct kl_ask_loop;
struct kl_exec;
struct kl_query;
struct kl_remote;
struct kl_said;
struct kl_user;

// In a request (zeroed), for its whole life.
struct kl_ask {
    struct kl_said *said;         // what it was told
    struct kl_query *pending;     // whose answer it wants
    struct kl_ask *next, **pprev; // others that want the same
    void (*then)(void *arg);      // NULL: does not wait for it
    void *arg;
};

// True: an answer is on its way, `then` comes once, later; ask again from there. False: nothing is
// missing, what was said stands.
bool kl_ask_wait(struct kl_ask *ask, void (*then)(void *arg), void *arg);
static inline bool kl_ask_is_pending(const struct kl_ask *ask)
{
    return ask->pending != NULL;
}
// The request ends: forgets the answers, waits no more.
void kl_ask_fini(struct kl_ask *ask);

// ---- for authenticators and authorisers

enum kl_decision { KL_NO_OPINION, KL_ALLOW, KL_DENY };

// What came of a question. Immutable once given; counted on its loop.
struct kl_reply {
    unsigned refs;
    int code;         // negative: it could not be answered; text says why
    int64_t until_ms; // may be used for later requests until then (monotonic); 0: not at all
    enum kl_decision decision;
    bool known; // a token that the webhook vouches for
    struct kl_user *user;
    const struct kl_str *audiences; // in the arena
    size_t naudiences;
    struct kl_str text; // reason or error, in the arena
    void *thing;        // of drop
    void (*drop)(void *thing);
    struct kl_arena arena;
};

struct kl_query_spec {
    struct kl_str key;     // what makes questions equal; with a prefix for each asker
    struct kl_remote *to;  // referenced
    struct kl_str target;  // "" : the remote's own
    struct kl_bytes *body; // NULL: GET. JSON otherwise; referenced
    uint32_t timeout_ms;   // of one attempt
    int retries;           // further attempts after 429, 5xx and broken connections
    int backoff_ms;        // before the first of them, then growing; 0: 500, negative: none
    size_t max_bytes;
    // Reads the answer into *out. http is the status, or a negative kl_err with err. It may ask
    // further with kl_query_follow, then this answer is not given to anybody.
    void (*read)(struct kl_query *q, int http, struct kl_str body, const struct kl_error *err,
                 struct kl_reply *out);
    void *arg;
    void (*release)(void *arg); // when the query is over; may be NULL
};

// What is known of a question: to this request, else to its loop. Borrowed; NULL: nothing.
const struct kl_reply *kl_ask_known(struct kl_api_loop *al, struct kl_ask *ask, struct kl_str key);
// Begins to find out, or joins others that do; marks `ask`. A negative answer (no memory, the loop
// ends, too many at once) leaves no mark: the question cannot be answered.
int kl_ask_begin(struct kl_api_loop *al, struct kl_ask *ask, const struct kl_query_spec *spec,
                 struct kl_error *err);
void *kl_query_arg(const struct kl_query *q);
struct kl_api_loop *kl_query_loop(const struct kl_query *q);
// From `read`: the answer is there. At most three times.
int kl_query_follow(struct kl_query *q, struct kl_remote *to);

// Forgets what the loop knows (a new configuration).
void kl_ask_forget(struct kl_api_loop *al);
// Ends what is under way: those who wait are told. New questions fail.
void kl_ask_stop(struct kl_api_loop *al);
void kl_ask_loop_fini(struct kl_api_loop *al);
// Calls that are under way on the loop.
size_t kl_ask_in_flight(const struct kl_api_loop *al);

// ---- remote.c: where to call. Immutable, counted by any thread.
struct kl_remote_opts {
    struct kl_str url; // https://host[:port][/path][?query]; http:// only with plain
    bool plain;
    struct kl_str ca, cert, key; // PEM; no CA: the system's roots
    const char *server_name;
    bool insecure_skip_verify;
    struct kl_str authorization; // "Bearer ..." or "Basic ..."; empty: none
    struct kl_exec *exec;        // instead of cert, key and authorization; NULL: none
};
int kl_remote_new(const struct kl_remote_opts *o, struct kl_remote **ret, struct kl_error *err);
// The current context of a kubeconfig, as upstream's webhooks are configured.
int kl_remote_from_kubeconfig(const char *path, struct kl_remote **ret, struct kl_error *err);
struct kl_remote *kl_remote_ref(struct kl_remote *r);
void kl_remote_unref(struct kl_remote *r);
// Another place that is reached with the same CA: scheme, host, port and target of the URL, and
// an authorisation of its own (empty: none).
int kl_remote_beside(struct kl_remote *r, struct kl_str url, struct kl_str authorization,
                     struct kl_remote **ret, struct kl_error *err);
struct kl_str kl_remote_url(const struct kl_remote *r);

// The users of a kubeconfig, for who calls several places as different users. Any thread.
struct kl_kubeconfig;
int kl_kubeconfig_new(const char *path, struct kl_kubeconfig **ret, struct kl_error *err);
void kl_kubeconfig_free(struct kl_kubeconfig *c); // accepts NULL
bool kl_kubeconfig_has(const struct kl_kubeconfig *c, struct kl_str user);
struct kl_str kl_kubeconfig_current(const struct kl_kubeconfig *c); // user of the current context
// Fills cert, key and authorization, in the arena; files are read now. Or exec, which the caller
// unrefs: users have one for all places, unless it wants to be told which: then url, ca and
// server_name of *ret say.
int kl_kubeconfig_user(const struct kl_kubeconfig *c, struct kl_arena *a, struct kl_str user,
                       struct kl_remote_opts *ret, struct kl_error *err);
