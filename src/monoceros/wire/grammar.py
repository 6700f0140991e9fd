"""The grammar of HTTP/1.1 on one page: each rule once, next to the sentence it comes from.

Code that parses says which rule it applies, never what the rule is.
"""

import re

# RFC 9110 §5.6.2     token = 1*tchar
TOKEN = rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+"
token = re.compile(TOKEN)

# RFC 9110 §5.5       visible bytes, blanks only between them; obs-fold is refused (RFC 9112 §5.2)
#
# Blanks at the end are looked for only after a value. Two runs of optional blanks side by side would
# cost n² on a line of blanks, which is seconds for 64 KiB.
VALUE = rb"[!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*"
field_line = re.compile(rb"(%s):[ \t]*(?:(%s)[ \t]*)?" % (TOKEN, VALUE))

# The part of a field line behind the colon.
field_value = re.compile(rb"[ \t]*(?:(%s)[ \t]*)?" % VALUE)

# RFC 9112 §3         request-line = method SP request-target SP HTTP-version
#
# The target is visible ASCII. Of what RFC 3986 forbids in a URI only "#" is refused here, because it
# is where two readers of one target would part; browsers send the rest ("|", "^", "{") as they are.
request_line = re.compile(rb"(%s) ([!\"$-~]+) HTTP/([0-9])\.([0-9])" % TOKEN)

# RFC 9110 §9.1       methods are upper-case by convention; a lower-case one is a mistake or a probe
method = re.compile(rb"[-!$%&'*+.^_`|~0-9A-Z]{3,20}")

# RFC 9112 §3.2.2     absolute-form: scheme "://" authority path-abempty [ "?" query ]
absolute_form = re.compile(rb"[A-Za-z][-+.0-9A-Za-z]*://([^/?@]+)([/?].*)?")

# RFC 9110 §7.2       Host = uri-host [ ":" port ]; the empty one is legal where the target has no authority
host = re.compile(rb"(?:[-._~0-9A-Za-z!$&'()*+,;=%]*|\[[.:0-9A-Fa-fvV]+\])(?::[0-9]{0,5})?")

# RFC 9110 §8.6       Content-Length = 1*DIGIT; no list, no sign, no blank inside
content_length = re.compile(rb"[0-9]+")
# 18 digits are an exbibyte and fit a signed 64-bit word, which is what others would keep it in.
CONTENT_LENGTH_DIGITS = 18

# RFC 9112 §7.1       chunk-size [ chunk-ext ] CRLF, chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] )
#
# 15 hex digits fit a signed 64-bit word: what the next reader of the stream could misread is refused.
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
chunk_line = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?)*\r\n" % (TOKEN, TOKEN, _QUOTED)
)

# A line ends in CR LF. A bare CR or LF is where two parsers see different lines (RFC 9112 §2.2 lets a
# server take a bare LF for a line end; to refuse it is the safe reading). A CR at the very end may
# still get its LF.
bare_newline = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")

# RFC 9110 §5.5       what an application may send as a value: no control bytes but the tab
sendable_value = re.compile(rb"[\t -~\x80-\xff]*")
# RFC 9112 §4         reason-phrase = 1*( HTAB / SP / VCHAR / obs-text )
reason = re.compile(rb"[\t -~\x80-\xff]*")
