# SPDX-License-Identifier: Apache-2.0
"""Requests whose answers are others than kube-apiserver's, and why. All of them are refused or do no
harm; what is here and could be answered as there is work that waits."""

WORDS = "other words: "
CONVERTER = WORDS + "of the converter of Go's structs"
DIFFERENT = {
    "json kind List": WORDS + "a List is no kind of ours",
    "yaml empty": "there an empty YAML body is an object without a name, here as an empty JSON body",
    "protobuf empty": "an empty body is of no content type here",
    "accept on discovery": "discovery answers JSON to who asks for anything",
    "timeout unit": "the parameter timeout is read by fairness only, which ignores what is none",
    "timeout garbage on post": "as above",
    "strategic patch text for a list": CONVERTER,
    "strategic patch wrong type": CONVERTER,
    "strategic patch of the metadata text": CONVERTER,
    "apply empty": WORDS + "it is refused as a patch without content",
    "apply with a uid to nothing": WORDS + "it is refused for its name before",
    "get of a bad escape": WORDS + "Go's HTTP server refuses the path",
    "proxy to a pod without an address": "pods, services and nodes have no proxy yet",
    "access review with a name": "metadata of a review is ignored here",
    "impersonate extra alone": WORDS + "they print the extra fields",
    "head of nothing": "HEAD is answered as GET is, without the body; there it is no method of resources",
    "lower case method": "the parser of HTTP/1.1 knows methods by name and answers 400",
    "group without a version": "a Status instead of a line of text",
    "apis post": "there POST to /apis answers as GET does",
    "openapi of nothing": "a Status instead of an empty answer",
    "quota negative": WORDS + "another order of findings",
    "service node port taken twice": WORDS + "they find the second port in the allocator",
}
