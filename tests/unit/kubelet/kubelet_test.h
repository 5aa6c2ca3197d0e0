// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// after them
#include <cmocka.h>
#include "object/json.h"
#include "object/value.h"
#include <stdio.h>
#include <stdlib.h>

// A draft of a built-in type from JSON.
static inline struct kl_value from_json(struct kl_arena *a, const char *type, const char *json)
{
    struct kl_value v;
    struct kl_error err;
    if (kl_json_decode(a, kl_type_by_name(kl_str(type)), kl_str(json), NULL, &v, &err))
        fail_msg("%s: %s", json, err.msg);
    return v;
}
#define POD_TYPE "io.k8s.api.core.v1.Pod"

static inline void assert_str(struct kl_str got, const char *want)
{
    if (!kl_str_eqz(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", KL_PRI(got), want);
}
