// SPDX-License-Identifier: Apache-2.0
// DaemonSets: how often the template has changed. To upstream's internal object that is a field;
// apps/v1 shows it as an annotation, which every conversion reads and writes anew
// (pkg/apis/apps/v1/conversion.go, pkg/registry/apps/daemonset).
#include "apiserver/strategy_int.h"
#include "object/defaults.h"
#include "object/freeze.h"
#include "object/gotext.h"
#include "object/schema.h"
#include <inttypes.h>

static const struct kl_str GENERATION = KL_STR_INIT("deprecated.daemonset.template.generation");

static bool is_daemon_set(const struct kl_type *t)
{
    return t == kl_type(KL_TYPE_apps_v1_DaemonSet);
}

static const struct kl_value *said(const struct kl_value *root)
{
    return kl_map_value(kl_meta_annotations(root), GENERATION);
}

// strconv.ParseInt: digits behind one sign. NULL, or what is wrong.
static const char *parse(struct kl_str s, int64_t *ret)
{
    size_t sign = s.n && (s.p[0] == '+' || s.p[0] == '-');
    struct kl_str digits = kl_str_from(s, sign);
    for (size_t i = 0; i < digits.n; i++)
        if (digits.p[i] < '0' || digits.p[i] > '9')
            return "invalid syntax";
    if (!digits.n)
        return "invalid syntax";
    return kl_str_to_i64(s.p[0] == '+' ? digits : s, ret) ? NULL : "value out of range";
}

static int64_t generation_of(const struct kl_value *root)
{
    const struct kl_value *v = said(root);
    int64_t n = 0;
    return v && !parse(kl_text(v), &n) ? n : 0;
}

static int set_generation(struct kl_req *r, struct kl_value *draft, int64_t n)
{
    const struct kl_value *is = said(draft);
    struct kl_str text = kl_arena_printf(r->arena, "%" PRId64, n);
    if (is && kl_str_eq(kl_text(is), text))
        return 0;
    struct kl_value *meta = kl_edit(r->arena, draft, KL_F_metadata, KL_STRUCT);
    struct kl_value *annotations = kl_edit(r->arena, meta, KL_F_annotations, KL_MAP);
    if (!text.p || !annotations ||
        kl_map_set_value(r->arena, annotations, GENERATION, kl_string(text)))
        return kl_fail_oom(r), KL_ENOMEM;
    return 0;
}

const char *kl_draft_misfit(struct kl_arena *a, const struct kl_type *type,
                            const struct kl_value *draft)
{
    const struct kl_value *v = is_daemon_set(type) ? said(draft) : NULL;
    int64_t ignored;
    const char *why = v ? parse(kl_text(v), &ignored) : NULL;
    struct kl_buf b;
    if (!why)
        return NULL;
    kl_buf_init(&b, KL_ERROR_TEXT_MAX);
    kl_buf_puts(&b, KL_STR("strconv.ParseInt: parsing "));
    kl_go_quote(&b, kl_text(v));
    kl_buf_printf(&b, ": %s", why);
    struct kl_str text = kl_arena_dup(a, kl_buf_str(&b));
    kl_buf_fini(&b);
    return text.p ? text.p : why;
}

int kl_draft_default(struct kl_req *r, struct kl_value *draft)
{
    const struct kl_type *type = r->info.res->type;
    if (kl_default_object(r->arena, type, draft))
        return kl_fail_oom(r), KL_ENOMEM;
    return is_daemon_set(type) ? set_generation(r, draft, generation_of(draft)) : 0;
}

int kl_daemon_set_prepare_create(struct kl_req *r, struct kl_value *draft)
{
    int64_t n = generation_of(draft);
    return set_generation(r, draft, n < 1 ? 1 : n);
}

int kl_daemon_set_prepare_update(struct kl_req *r, struct kl_value *draft,
                                 const struct kl_value *old)
{
    int64_t n = generation_of(old);
    struct kl_value now;
    if (kl_draft_canonical(r->arena, r->info.res->type, NULL, draft, &now))
        return kl_fail_oom(r), KL_ENOMEM;
    const struct kl_value *is = kl_path(&now, KL_F_spec, KL_F_template),
                          *was = kl_path(old, KL_F_spec, KL_F_template);
    return set_generation(r, draft, is && was && !kl_value_equal(is, was) ? n + 1 : n);
}
