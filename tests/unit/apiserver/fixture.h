// SPDX-License-Identifier: Apache-2.0
// An API server's insides on a memory store and one loop, without a listener: what authentication,
// authorisation and bootstrap need.
#pragma once
#include "apiserver/auth/auth.h"
#include "apiserver/pki.h"

struct fixture {
    struct kl_loop *loop;
    struct kl_store *store;
    struct kl_apiserver srv;
    struct kl_arena arena;
    struct kl_pki pki; // a service key and a CA's text
    char key_pem[1024];
    struct start *start; // fixture.c's
};

// Each test body runs on the loop; it may call the functions below and returns when it is done.
void fixture_run(void (*body)(struct fixture *f));
// Lets the loop run until *flag; after 5 s the test is aborted.
void fixture_wait(struct fixture *f, const bool *flag);

// Writes an object given as JSON (storage version) and waits until the loop's view has it.
// Returns its key, in the fixture's arena.
struct kl_str fixture_put(struct fixture *f, uint16_t res, const char *json);
// The same with any bytes as the stored value.
struct kl_str fixture_put_raw(struct fixture *f, uint16_t res, const char *ns, const char *name,
                              const char *value);
void fixture_delete(struct fixture *f, struct kl_str key);
struct kl_object *fixture_get(struct fixture *f, uint16_t res, const char *ns, const char *name);
// The object as JSON text in the arena.
const char *fixture_json(struct fixture *f, const struct kl_type *type, const struct kl_value *v);

// A user in groups (NULL-ended). Unref it.
struct kl_user *fixture_user(const char *name, const char *const *groups);
// A request on the loop as this user (borrowed): verb, resource and body as JSON. After it ran,
// fixture_req_json says what came of it.
struct fixture_req {
    struct kl_req r;
    bool done;
};
void fixture_req_init(struct fixture *f, struct fixture_req *q, struct kl_user *u, enum kl_verb op,
                      uint16_t res, const char *sub, const char *ns, const char *name,
                      const char *body);
const char *fixture_req_json(struct fixture *f, struct fixture_req *q);
void fixture_req_fini(struct fixture_req *q);

// Fails and prints both when text does not contain the part.
void fixture_assert_has(const char *text, const char *part);
