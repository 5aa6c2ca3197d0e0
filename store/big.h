// SPDX-License-Identifier: Apache-2.0
// A batch of many rows (a deletion of a range): what publishing and freeing it need, made before it
// is proposed, or while an outside one is offered again and again, so that it is published at once
// and still keeps no loop for long.
#pragma once
#include "store/store_int.h"

struct kl_big {
    size_t at;                  // rows made ready; later: rows freed
    struct kl_ring_built built; // the newest of them
    int64_t held;               // by its events
    uint32_t *marked; // puts that publishing looks at: with a lease, or something to hang on
    size_t nmarked, cap_marked;
    bool published;
    bool settle;             // deletions of keys with a lease: those leave its list afterwards
    struct kl_view *view;    // the one before it
    struct kl_replay replay; // of an outside one
};
