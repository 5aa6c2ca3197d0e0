// SPDX-License-Identifier: Apache-2.0
// The API server's own flags, the same for `kinglet server`, `kinglet kube-apiserver` and
// `kinglet test-server`. A part of the API server that wants a flag adds a field to
// apiserver/settings.h and a row here; nothing else has to know it.
#pragma once
#include "apiserver/settings.h"
#include "cli/flags.h"

// Offsets are those of struct kl_api_settings, which begins as kl_api_settings_default.
extern const struct kl_flag kl_api_flags[];
extern const size_t kl_napi_flags;
