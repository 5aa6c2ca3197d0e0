// SPDX-License-Identifier: Apache-2.0
// The parts of kl_html.
#pragma once
#include "apiserver/proxy/html.h"

// gen_entities.py
extern const char kl_html_entities[];
extern const unsigned short kl_html_entity_at[];
extern const unsigned kl_html_nentities;

// An attribute's value, its character references resolved, line ends made one.
void kl_html_unescape(struct kl_str s, struct kl_buf *out);
void kl_html_escape(struct kl_str s, struct kl_buf *out);
// The tag that is held, which begins an element, with its links changed.
void kl_html_put_tag(struct kl_html *h, struct kl_buf *out);
