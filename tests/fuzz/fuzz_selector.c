// SPDX-License-Identifier: Apache-2.0
// Label and field selectors: what parses must print to a text that parses to the same, and must
// match without harm. Names are checked on the way.
#include "fuzz.h"
#include "object/names.h"
#include "object/resource.h"
#include "object/selector.h"

static struct kl_value sample_labels(struct kl_arena *a)
{
    struct kl_value m = kl_new_map();
    kl_map_set_value(a, &m, KL_STR("app"), kl_stringz("web"));
    kl_map_set_value(a, &m, KL_STR("n"), kl_stringz("5"));
    return m;
}

static void try_labels(struct kl_arena *a, struct kl_str text)
{
    struct kl_selector s, again;
    struct kl_error err;
    struct kl_value labels = sample_labels(a);
    if (kl_label_selector_parse(a, text, &s, &err))
        return;
    struct kl_str printed = kl_selector_text(a, &s);
    FUZZ_CHECK(kl_label_selector_parse(a, printed, &again, &err) == 0, "%.*s: %s", KL_PRI(printed),
               err.msg);
    FUZZ_CHECK(kl_str_eq(printed, kl_selector_text(a, &again)), "%.*s", KL_PRI(printed));
    FUZZ_CHECK(kl_selector_matches(&s, &labels) == kl_selector_matches(&again, &labels), "%.*s",
               KL_PRI(printed));
    kl_selector_matches(&s, NULL);
}

static void try_fields(struct kl_arena *a, struct kl_str text)
{
    struct kl_selector s;
    struct kl_error err;
    struct kl_value root = kl_new_struct();
    if (kl_field_selector_parse(a, text, &s, &err))
        return;
    for (uint16_t i = 0; i < kl_nresources; i += 7) {
        kl_field_selector_check(kl_res(i), &s, &err);
        kl_field_selector_matches(kl_res(i), &s, &root);
    }
}

static void try_names(struct kl_arena *a, struct kl_str text)
{
    struct kl_name_errors errs;
    for (int format = KL_NAME_DNS1123_LABEL; format <= KL_NAME_LABEL_VALUE; format++)
        FUZZ_CHECK(kl_name_check((enum kl_name_format)format, text, &errs) == (errs.n == 0),
                   "format %d", format);
    kl_name_qualified(a, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_arena a;
    struct kl_str text = {(const char *)data, size};
    kl_arena_init(&a, 64 << 20);
    try_labels(&a, text);
    try_fields(&a, text);
    try_names(&a, text);
    kl_arena_fini(&a);
    return 0;
}
