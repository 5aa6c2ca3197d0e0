// SPDX-License-Identifier: Apache-2.0
// Upstream's name formats and their messages (apimachinery util/validation).
#pragma once
#include "base/arena.h"

// Each returns NULL when valid, else upstream's first message (constant).
const char *kl_name_dns1123_label(struct kl_str s);
const char *kl_name_dns1123_subdomain(struct kl_str s);
const char *kl_name_dns1035_label(struct kl_str s);
const char *kl_name_path_segment(struct kl_str s);
const char *kl_name_label_value(struct kl_str s);
// Label and annotation keys. Where upstream gives several messages they are joined by "; " in the
// arena; without an arena the first one is given.
const char *kl_name_qualified(struct kl_arena *a, struct kl_str s);

// Base64 with its padding (RFC 4648, section 4), not empty.
bool kl_is_base64(struct kl_str s);
// One mail address as net/mail.ParseAddress takes it.
bool kl_name_is_mail(struct kl_str s);

// Every message of one name, for callers that make a cause of each (ValidateObjectMeta).
enum kl_name_format {
    KL_NAME_DNS1123_LABEL,
    KL_NAME_DNS1123_SUBDOMAIN,
    KL_NAME_DNS1035_LABEL,
    KL_NAME_PATH_SEGMENT,
    KL_NAME_QUALIFIED,
    KL_NAME_LABEL_VALUE,
};
#define KL_NAME_ERRORS_MAX 4
struct kl_name_errors {
    const char *msg[KL_NAME_ERRORS_MAX]; // constants
    size_t n;
};
// False when there are errors.
bool kl_name_check(enum kl_name_format format, struct kl_str s, struct kl_name_errors *ret);
