// SPDX-License-Identifier: Apache-2.0
// spec.conversion of a definition.
#include "object/cel/url_int.h"
#include "object/crd/definition_int.h"
#include "object/validate/validate_int.h"

// A certificate in PEM, as far as its armour says.
bool crd_is_bundle(struct kl_str s)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    const char *from = s.n ? memmem(s.p, s.n, begin, sizeof begin - 1) : NULL;
    return from && memmem(from, (size_t)(s.p + s.n - from), end, sizeof end - 1);
}

bool crd_knows_review(struct kl_str version)
{
    return kl_str_eqz(version, "v1") || kl_str_eqz(version, "v1beta1");
}

static void check_url(struct crd_definition *d, struct kl_str url, const struct crd_path *p)
{
    static const char form[] = "; desired format: https://host[/path]";
    struct cel_url u;
    const char *why = cel_url_parse(d->f->arena, url, &u);
    if (why) {
        crd_find_at(d->f, "FieldValueRequired", p, CRD_OMIT, "url must be a valid URL: %s%s", why,
                    form);
        return;
    }
    ptrdiff_t scheme = kl_str_chr(url, ':'), query = kl_str_chr(url, '?');
    ptrdiff_t fragment = kl_str_chr(url, '#');
    struct kl_str name = {url.p, scheme > 0 ? (size_t)scheme : 0};
    if (!kl_str_ieq(name, KL_STR("https")))
        crd_invalid(d->f, p, crd_lower(d->f->arena, name),
                    "'https' is the only allowed URL scheme%s", form);
    struct kl_str rest = kl_str_from(url, name.n + (scheme > 0));
    struct kl_str host = KL_STR(""), user = KL_STR("");
    if (kl_str_starts(rest, KL_STR("//"))) {
        host = kl_str_from(rest, 2);
        for (size_t i = 0; i < host.n; i++)
            if (strchr("/?#", host.p[i]))
                host.n = i;
        ptrdiff_t at = kl_str_chr(host, '@');
        if (at >= 0) {
            user = (struct kl_str){host.p, (size_t)at};
            host = kl_str_from(host, (size_t)at + 1);
        }
    }
    if (!host.n)
        crd_invalid(d->f, p, host, "host must be specified%s", form);
    if (user.n)
        crd_invalid(d->f, p, user, "user information is not permitted in the URL");
    if (fragment >= 0 && (size_t)fragment + 1 < url.n)
        crd_invalid(d->f, p, kl_str_from(url, (size_t)fragment + 1),
                    "fragments are not permitted in the URL");
    if (query >= 0 && (fragment < 0 || query < fragment)) {
        struct kl_str q = kl_str_from(url, (size_t)query + 1);
        if (fragment >= 0)
            q.n = (size_t)(fragment - query) - 1;
        if (q.n)
            crd_invalid(d->f, p, q, "query parameters are not permitted in the URL");
    }
}

static void check_service_path(struct crd_definition *d, struct kl_str path,
                               const struct crd_path *p)
{
    struct kl_str rest, step;
    size_t i = 0;
    if (!path.n || kl_str_eqz(path, "/"))
        return;
    if (kl_str_eqz(path, "//")) {
        crd_invalid(d->f, p, path, "segment[0] may not be empty");
        return;
    }
    if (path.p[0] != '/')
        crd_invalid(d->f, p, path, "must start with a '/'");
    rest = kl_str_from(path, 1);
    if (rest.n && rest.p[rest.n - 1] == '/')
        rest.n--;
    for (; kl_str_split(&rest, '/', &step); i++) {
        const char *msg[KL_V_MESSAGES];
        size_t n = step.n ? kl_v_messages(KL_V_SUBDOMAIN, step, msg) : 0;
        if (!step.n)
            crd_invalid(d->f, p, path, "segment[%zu] may not be empty", i);
        for (size_t k = 0; k < n; k++)
            crd_invalid(d->f, p, path, "segment[%zu]: %s", i, msg[k]);
    }
}

static void check_client(struct crd_definition *d, const struct kl_value *cc,
                         const struct crd_path *p)
{
    const struct kl_value *url = kl_get(cc, KL_F_url), *service = kl_get(cc, KL_F_service);
    const struct kl_value *bundle = kl_get(cc, KL_F_caBundle);
    const struct crd_path *at = CP(p, "service");
    struct kl_v c = {.f = d->f};
    if (!cc) {
        crd_required(d->f, p, "required when strategy is set to Webhook");
        return;
    }
    if (!url == !service) {
        crd_required(d->f, p, "exactly one of url or service is required");
    } else if (url) {
        check_url(d, kl_text(url), CP(p, "url"));
    } else {
        int64_t port = kl_int_or(kl_get(service, KL_F_port), 443);
        // Upstream hands over name and namespace the wrong way round.
        if (!kl_text(kl_get(service, KL_F_namespace)).n)
            crd_required(d->f, CP(at, "name"), "");
        if (!kl_text(kl_get(service, KL_F_name)).n)
            crd_required(d->f, CP(at, "namespace"), "");
        if (port < 1 || port > 65535)
            crd_find_at(d->f, "FieldValueInvalid", CP(at, "port"),
                        kl_arena_printf(d->f->arena, "%lld", (long long)port),
                        "port is not valid: must be between 1 and 65535, inclusive");
        check_service_path(d, kl_text(kl_get(service, KL_F_path)), CP(at, "path"));
    }
    if (kl_text(bundle).n && !d->opt.any_bundle && !crd_is_bundle(kl_text(bundle)))
        crd_find_at(d->f, "FieldValueInvalid", CP(p, "caBundle"),
                    kl_v_json(&c, NULL, bundle, false),
                    "unable to load root certificates: unable to parse bytes as PEM block");
}

static void check_reviews(struct crd_definition *d, const struct kl_value *list,
                          const struct crd_path *p)
{
    bool known = false;
    if (!kl_len(list)) {
        crd_required(d->f, p, "");
        return;
    }
    for (uint32_t i = 0; i < list->n; i++) {
        struct kl_str v = kl_text(&list->items[i]);
        const char *msg[KL_V_MESSAGES];
        bool again = false;
        for (uint32_t k = 0; k < i; k++)
            again |= kl_str_eq(kl_text(&list->items[k]), v);
        if (again) {
            crd_invalid(d->f, CI(p, i), v, "duplicate version");
            continue;
        }
        size_t n = kl_v_messages(KL_V_DNS1035, v, msg);
        for (size_t k = 0; k < n; k++)
            crd_invalid(d->f, CI(p, i), v, "%s", msg[k]);
        known |= crd_knows_review(v);
    }
    if (d->opt.need_review_version && !known)
        crd_find_at(d->f, "FieldValueInvalid", p, crd_show(d->f->arena, list),
                    "must include at least one of v1, v1beta1");
}

void crd_check_conversion(struct crd_definition *d, const struct crd_path *p)
{
    static const char *const strategies[] = {"None", "Webhook", NULL};
    const struct kl_value *conversion = kl_get(d->spec, KL_F_conversion);
    const struct kl_value *hook = kl_get(conversion, KL_F_webhook);
    const struct kl_value *reviews = kl_get(hook, KL_F_conversionReviewVersions);
    struct kl_str strategy = kl_text(kl_get(conversion, KL_F_strategy));
    const struct kl_value *preserve = kl_get(d->spec, KL_F_preserveUnknownFields);
    if (!conversion)
        return;
    if (kl_is_true(preserve) && !kl_str_eqz(strategy, "None"))
        crd_invalid(d->f, CP(p, "strategy"), strategy,
                    "must be None if spec.preserveUnknownFields is true");
    if (!strategy.n)
        crd_required(d->f, CP(p, "strategy"), "");
    else if (!kl_v_in(strategy, strategies))
        crd_unsupported(d->f, CP(p, "strategy"), strategy, strategies);
    if (kl_str_eqz(strategy, "Webhook")) {
        check_client(d, kl_get(hook, KL_F_clientConfig), CP(p, "webhookClientConfig"));
        check_reviews(d, reviews, CP(p, "conversionReviewVersions"));
        return;
    }
    if (kl_get(hook, KL_F_clientConfig))
        crd_forbidden(d->f, CP(p, "webhookClientConfig"),
                      "should not be set when strategy is not set to Webhook");
    if (kl_len(reviews))
        crd_forbidden(d->f, CP(p, "conversionReviewVersions"),
                      "should not be set when strategy is not set to Webhook");
}
