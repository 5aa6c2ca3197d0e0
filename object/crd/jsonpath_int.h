// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "object/crd/jsonpath.h"

enum jsonpath_kind {
    JP_TEXT,
    JP_FIELD,
    JP_ARRAY,
    JP_FILTER,
    JP_SCALAR, // a number or truth value
    JP_WILDCARD,
    JP_RECURSIVE,
    JP_UNION,
    JP_IDENTIFIER, // range, end
    JP_LIST,
};

struct jsonpath_nodes {
    struct jsonpath_node **of;
    uint32_t n, cap;
};

struct jsonpath_param {
    int64_t value;
    bool known, derived;
};

struct jsonpath_node {
    enum jsonpath_kind kind;
    struct kl_str text; // of text and identifiers; a field's name; a filter's operator
    struct kl_value value;
    struct jsonpath_param params[3];
    struct jsonpath_nodes list;  // of lists and unions; a filter's left side
    struct jsonpath_nodes right; // of a filter
};

struct kl_jsonpath {
    struct jsonpath_nodes root;
};
