// SPDX-License-Identifier: Apache-2.0
// kine's tables become ours, and ours kine's again. Revisions, keys and values stay as they are.
#pragma once
#include "base/err.h"

// Turns a datastore of ours, in place, back into one that kine and K3s open: previous values and
// kine's indexes come back, what is ours goes. Nobody may hold it. Blocks.
int kl_kine_give_back(const char *url, struct kl_error *err);
