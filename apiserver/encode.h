// SPDX-License-Identifier: Apache-2.0
// What form the client wants its answer in, and objects written in it.
#pragma once
#include "apiserver/request.h"
#include "watchcache/cache.h"

struct kl_spec {
    enum kl_media media;
    enum kl_form form;
    enum kl_include_object include; // of Table rows
    bool pretty;
    bool stream_watch; // ;stream=watch was said
    bool meta_v1beta1; // Table and Partial forms of meta.k8s.io/v1beta1
    bool discovery_v2; // as=APIGroupDiscoveryList, whose v2beta1 is gone upstream too
};

// What an answer is of: resources come as Table and PartialObjectMetadata too; custom ones not in
// protobuf but as those.
enum kl_spec_of { KL_SPEC_OF_TEXT, KL_SPEC_OF_OBJECTS, KL_SPEC_OF_CUSTOM };
// Reads an Accept header. KL_ENOTACCEPTABLE when nothing of it can be given, KL_EUNSUPPORTED when a
// media type could but not in the form it asks for.
int kl_spec_parse(struct kl_str accept, enum kl_spec_of of, struct kl_spec *ret);
// Whether an Accept header takes this one type. An empty one takes everything.
bool kl_accept_has(struct kl_str accept, const char *type);
// The form of a page like /statusz: KL_MEDIA_NONE is text; JSON and YAML only where they are asked
// for as that kind of config.k8s.io, in *ret_version. KL_ENOTACCEPTABLE: none of them.
int kl_accept_page(struct kl_str accept, const char *kind, enum kl_media *ret,
                   const char **ret_version);
// The apiVersion of Table and Partial forms.
static inline struct kl_str kl_spec_meta_version(const struct kl_spec *s)
{
    return s->meta_v1beta1 ? KL_STR("meta.k8s.io/v1beta1") : KL_STR("meta.k8s.io/v1");
}
const char *kl_spec_content_type(const struct kl_spec *s, bool watch);
// Content-Type of a body; KL_MEDIA_NONE when it is none that is understood. Empty is JSON.
enum kl_media kl_media_of_content_type(struct kl_str content_type);

// The answer of a finished request (failure, object, Status) as bytes. A Status is always an
// object, whatever form was asked for. Returns a reference, NULL when out of memory.
struct kl_bytes *kl_encode_result(struct kl_req *r, const struct kl_spec *s);
// A typed value with its kind.
void kl_encode_value(struct kl_buf *out, const struct kl_spec *s, const struct kl_type *type,
                     struct kl_str api_version, struct kl_str kind, const struct kl_value *v);

// Compact JSON as the text that the client asked for: YAML, pretty or as it is, and a newline.
void kl_encode_text(struct kl_buf *out, const struct kl_spec *s, struct kl_str json);

// One object of a list or watch in the version, form and media of the request, as JSON text or
// protobuf message without envelope, appended to out. For forms that are not cached.
int kl_encode_item(struct kl_buf *out, const struct kl_req *r, const struct kl_spec *s,
                   const struct kl_object *o, struct kl_error *err);
// Whether list items and watch objects can be slices of the cached encodings.
bool kl_spec_is_cached(const struct kl_req *r, const struct kl_spec *s);
// The object converted to the version of info.res; `o` itself (referenced) when no conversion is
// needed.
struct kl_object *kl_object_in_version(const struct kl_resource *res, struct kl_object *o,
                                       struct kl_error *err);
// {"cells":[...],"object":{...}} of a Table.
void kl_encode_row(struct kl_buf *out, const struct kl_req *r, const struct kl_spec *s,
                   const struct kl_object *o, int64_t now_us);
void kl_encode_partial(struct kl_buf *out, const struct kl_spec *s, const struct kl_object *o,
                       bool head);
// How long the protobuf message of that is, without its envelope.
size_t kl_encode_partial_size(const struct kl_object *o);
