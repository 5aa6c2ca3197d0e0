// SPDX-License-Identifier: Apache-2.0
// Lines for people (or JSON) on stderr. Libraries return errors; owners log once, with key=value.
// Never pass a secret, a token or a Secret's data.
#pragma once
#include <stdbool.h>

// KL_LOG_NONE is a level to set, not to write at.
enum kl_log_level { KL_LOG_NONE, KL_LOG_ERROR, KL_LOG_WARN, KL_LOG_INFO, KL_LOG_DEBUG };

void kl_log_setup(enum kl_log_level level, bool json);
bool kl_log_on(enum kl_log_level level);
void kl_log_write(enum kl_log_level level, const char *component, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

// kl_log(KL_LOG_INFO, "store", "opened path=%s rev=%lld", path, rev)
#define kl_log(level, component, ...)                                                              \
    do {                                                                                           \
        if (kl_log_on(level))                                                                      \
            kl_log_write((level), (component), __VA_ARGS__);                                       \
    } while (0)
