// SPDX-License-Identifier: Apache-2.0
// Content negotiation as apiserver's endpoints/handlers/negotiation does it.
#include "apiserver/encode.h"

#define MAX_CLAUSES 16

struct clause {
    struct kl_str type, as, group, version, stream, pretty;
    int q; // thousandths
};

static int parse_q(struct kl_str v)
{
    int q = v.n && v.p[0] == '1' ? 1000 : 0, unit = 100;
    for (size_t i = 2; i < v.n && v.p[i] >= '0' && v.p[i] <= '9' && unit; i++, unit /= 10)
        q += (v.p[i] - '0') * unit;
    return q > 1000 ? 1000 : q;
}

static void parse_clause(struct kl_str text, struct clause *c)
{
    struct kl_str part;
    *c = (struct clause){.q = 1000};
    kl_str_split(&text, ';', &part);
    c->type = kl_str_trim(part);
    while (kl_str_split(&text, ';', &part)) {
        part = kl_str_trim(part);
        ptrdiff_t eq = kl_str_chr(part, '=');
        if (eq < 0)
            continue;
        struct kl_str k = {part.p, (size_t)eq}, v = kl_str_trim(kl_str_from(part, (size_t)eq + 1));
        if (kl_str_eqz(k, "as"))
            c->as = v;
        else if (kl_str_eqz(k, "g"))
            c->group = v;
        else if (kl_str_eqz(k, "v"))
            c->version = v;
        else if (kl_str_eqz(k, "stream"))
            c->stream = v;
        else if (kl_str_eqz(k, "pretty"))
            c->pretty = v;
        else if (kl_str_eqz(k, "q"))
            c->q = parse_q(v);
    }
}

static bool take_form(const struct clause *c, bool objects, struct kl_spec *s)
{
    if (!c->as.n)
        return true;
    bool v1 = kl_str_eqz(c->version, "v1"), v1beta1 = kl_str_eqz(c->version, "v1beta1");
    if (kl_str_eqz(c->as, "APIGroupDiscoveryList") && kl_str_eqz(c->group, "apidiscovery.k8s.io")) {
        s->discovery_v2 = kl_str_eqz(c->version, "v2");
        return !objects && s->discovery_v2;
    }
    if (!objects || !kl_str_eqz(c->group, "meta.k8s.io") || (!v1 && !v1beta1))
        return false;
    s->meta_v1beta1 = v1beta1;
    if (kl_str_eqz(c->as, "Table"))
        s->form = KL_FORM_TABLE;
    else if (kl_str_eqz(c->as, "PartialObjectMetadata"))
        s->form = KL_FORM_PARTIAL;
    else if (kl_str_eqz(c->as, "PartialObjectMetadataList"))
        s->form = KL_FORM_PARTIAL_LIST;
    else
        return false;
    return s->form != KL_FORM_TABLE || s->media != KL_MEDIA_PROTOBUF;
}

static bool take_clause(const struct clause *c, enum kl_spec_of of, struct kl_spec *s)
{
    *s = (struct kl_spec){0};
    if (kl_str_eqz(c->type, "application/json") || kl_str_eqz(c->type, "*/*") ||
        kl_str_eqz(c->type, "application/*"))
        s->media = KL_MEDIA_JSON;
    else if (kl_str_eqz(c->type, "application/vnd.kubernetes.protobuf"))
        s->media = KL_MEDIA_PROTOBUF;
    else if (kl_str_eqz(c->type, "application/yaml"))
        s->media = KL_MEDIA_YAML;
    else
        return false;
    s->stream_watch = kl_str_eqz(c->stream, "watch");
    s->pretty = c->pretty.n && !kl_str_eqz(c->pretty, "0") && !kl_str_eqz(c->pretty, "false");
    return take_form(c, of != KL_SPEC_OF_TEXT, s) &&
           !(of == KL_SPEC_OF_CUSTOM && s->media == KL_MEDIA_PROTOBUF && s->form == KL_FORM_OBJECT);
}

// By falling q, in the order sent. As upstream, which looks at q for the order only: q=0 is the
// last, not none.
static size_t parse_accept(struct kl_str accept, struct clause *c)
{
    struct kl_str part;
    size_t n = 0;
    while (n < MAX_CLAUSES && kl_str_split(&accept, ',', &part)) {
        part = kl_str_trim(part);
        if (part.n)
            parse_clause(part, &c[n++]);
    }
    for (size_t i = 1; i < n; i++) // insertion sort of a handful
        for (size_t j = i; j && c[j].q > c[j - 1].q; j--) {
            struct clause t = c[j];
            c[j] = c[j - 1];
            c[j - 1] = t;
        }
    return n;
}

bool kl_accept_has(struct kl_str accept, const char *type)
{
    struct clause c[MAX_CLAUSES];
    size_t n = parse_accept(accept, c);
    for (size_t i = 0; i < n; i++)
        if (kl_str_eqz(c[i].type, "*/*") || kl_str_eqz(c[i].type, type))
            return true;
    return !n;
}

int kl_accept_page(struct kl_str accept, const char *kind, enum kl_media *ret,
                   const char **ret_version)
{
    static const char *const versions[] = {"v1alpha1", "v1beta1"};
    struct clause c[MAX_CLAUSES];
    size_t n = parse_accept(accept, c);
    *ret = KL_MEDIA_NONE;
    for (size_t i = 0; i < n; i++) {
        bool any = kl_str_eqz(c[i].type, "*/*"), yaml = kl_str_eqz(c[i].type, "application/yaml");
        bool json = any || kl_str_eqz(c[i].type, "application/json") ||
                    kl_str_eqz(c[i].type, "application/*");
        bool ours = kl_str_eqz(c[i].as, kind) && kl_str_eqz(c[i].group, "config.k8s.io");
        if (!c[i].as.n &&
            (any || kl_str_eqz(c[i].type, "text/plain") || kl_str_eqz(c[i].type, "text/*")))
            return 0;
        for (size_t v = 0; ours && (json || yaml) && v < KL_COUNT(versions); v++)
            if (kl_str_eqz(c[i].version, versions[v])) {
                *ret = yaml ? KL_MEDIA_YAML : KL_MEDIA_JSON;
                *ret_version = versions[v];
                return 0;
            }
    }
    return n ? KL_ENOTACCEPTABLE : 0;
}

int kl_spec_parse(struct kl_str accept, enum kl_spec_of of, struct kl_spec *ret)
{
    struct clause c[MAX_CLAUSES];
    size_t n = parse_accept(accept, c);
    if (!n) {
        *ret = (struct kl_spec){.media = KL_MEDIA_JSON};
        return 0;
    }
    int rc = KL_ENOTACCEPTABLE;
    for (size_t i = 0; i < n; i++) {
        if (take_clause(&c[i], of, ret))
            return 0;
        if (ret->media != KL_MEDIA_NONE)
            rc = KL_EUNSUPPORTED;
    }
    *ret = (struct kl_spec){.media = KL_MEDIA_JSON};
    return rc;
}

const char *kl_spec_content_type(const struct kl_spec *s, bool watch)
{
    switch (s->media) {
    case KL_MEDIA_PROTOBUF:
        return watch ? "application/vnd.kubernetes.protobuf;stream=watch"
                     : "application/vnd.kubernetes.protobuf";
    case KL_MEDIA_YAML:
        return "application/yaml";
    default:
        return "application/json";
    }
}

enum kl_media kl_media_of_content_type(struct kl_str t)
{
    ptrdiff_t semi = kl_str_chr(t, ';');
    struct kl_str params = semi < 0 ? KL_STR("") : kl_str_from(t, (size_t)semi + 1), one;
    if (semi >= 0)
        t.n = (size_t)semi;
    t = kl_str_trim(t);
    while (kl_str_split(&params, ';', &one)) // mime.ParseMediaType
        if (kl_str_trim(one).n && kl_str_chr(one, '=') <= 0)
            return KL_MEDIA_NONE;
    if (!t.n || kl_str_ieq(t, KL_STR("application/json")))
        return KL_MEDIA_JSON;
    if (kl_str_ieq(t, KL_STR("application/vnd.kubernetes.protobuf")))
        return KL_MEDIA_PROTOBUF;
    if (kl_str_ieq(t, KL_STR("application/yaml")))
        return KL_MEDIA_YAML;
    return KL_MEDIA_NONE;
}
