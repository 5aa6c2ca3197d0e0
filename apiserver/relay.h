// SPDX-License-Identifier: Apache-2.0
// A request that another server answers: what it says goes on to the client as the client takes it,
// an upgraded connection byte by byte. Both end when the client goes away and when the user's
// credential is revoked.
//
// Embedded by who asks the other server (connect.c the kubelet, aggregate/proxy.c the aggregated
// API server, proxy/ a program), in the request's arena, zeroed, with `call` and `fini` set. It
// starts the call, `up`, and passes on what the call says. All on the request's loop.
#pragma once
#include "apiserver/auth/revoke.h"
#include "apiserver/server_int.h"

struct kl_relay {
    struct kl_api_call *call;
    struct kl_http_call *up;          // NULL once it ended
    void (*fini)(struct kl_relay *x); // what the embedder has of its own; may be NULL
    bool answered;                    // the client has the head of the answer, or is upgraded
    // relay.c's own
    bool upgraded, ended, closed, failed, paused;
    struct kl_bytes **queue; // what came and was not taken
    size_t nqueue, cap, queued_bytes;
    struct kl_revocable revocable;
};

// The call has begun: it ends when the client goes away.
void kl_relay_begin(struct kl_relay *x);
// on_headers: answers the client; what kl_relay_data gets follows.
void kl_relay_answer(struct kl_relay *x, int status, const struct kl_http_header *h, size_t nh);
void kl_relay_data(struct kl_relay *x, struct kl_str data);
// on_upgrade: the two ends are joined. Takes over the duplex.
void kl_relay_upgrade(struct kl_relay *x, struct kl_str protocol, const struct kl_http_header *h,
                      size_t nh, struct kl_duplex *far);
// on_end. True: the client was told nothing yet, and is still there: the embedder answers it (after
// kl_relay_drop). False: x is gone, or will go by itself.
bool kl_relay_end(struct kl_relay *x, int status);
// Lets go of all but the request.
void kl_relay_drop(struct kl_relay *x);
// Why a call failed, as Go words it. In the arena; p is NULL: out of memory.
struct kl_str kl_relay_error(struct kl_arena *a, int status, const struct kl_error *err);
// Upstream's UpgradeAwareHandler had no answer for an upgrade: fills r->fail.
void kl_relay_fail_upgrade(struct kl_req *r, int status, const struct kl_error *err);

// A header as it may go on: without the token that is among WebSocket protocols, which is for this
// server. False: nothing is left of it.
bool kl_relay_header(struct kl_arena *a, const struct kl_http_header *in,
                     struct kl_http_header *ret);
