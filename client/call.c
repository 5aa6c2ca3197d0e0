// SPDX-License-Identifier: Apache-2.0
#include "client/client.h"
#include <stdlib.h>

void kl_call_fini(struct kl_call *call)
{
    kl_object_unref(call->object);
    call->object = NULL;
    for (size_t i = 0; i < call->n_items; i++)
        kl_object_unref(call->items[i]);
    free(call->items);
    call->items = NULL;
    call->n_items = 0;
    if (call->memory) {
        kl_arena_fini(call->memory);
        free(call->memory);
        call->memory = NULL;
    }
    call->list_rv = call->list_continue = (struct kl_str){0};
}
