"""Writes jinja2.json: what Jinja2 makes of the templates below. See README.md."""
import datetime
import json

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

T = []
T+= """{{ [1,2.5,'a',none,true] }}|{{ {'a':1,'b':[1,2]} }}|{{ ("x",) }}|{{ 'it\\'s' }}|{{ ["it's"] }}
{{ 1/2 }} {{ 7//2 }} {{ -7//2 }} {{ -7%3 }} {{ 2**10 }} {{ 2**-1 }} {{ 1e20 }} {{ 1.0 }} {{ 0.00001 }} {{ 3.14 }} {{ -7.5 // 2 }} {{ 7.5 % 2 }}
{{ 'abc'[1] }} {{ 'abc'[::-1] }} {{ [1,2,3][-2:] }} {{ [1,2,3,4][::2] }} {{ [1,2,3,4][3:0:-2] }} {{ 'héllo'[1:3] }} {{ [1,2][5:] }} {{ [1,2,3][:-1] }}
{% for x in [1,2,3] if x != 2 %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}
{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(a=1, b='q') %}{% for i in range(3) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ range(1,10,3)|list }}{{ range(5,0,-2)|list }}
{% macro m(a, b='d') %}[{{ a }}-{{ b }}]{% endmacro %}{{ m(1) }}{{ m(b=2, a=3) }}
{% macro w() %}<{{ caller() }}>{% endmacro %}{% call w() %}in {{ messages|length }}{% endcall %}
{{ messages|tojson }}{{ messages|tojson(indent=2) }}{{ {'é':'\\u00e9"\\n\\t/</>','n':1.5,'e':[],'d':{}}|tojson }}{{ {'b':1,'a':2}|tojson(sort_keys=true, separators=(',',':')) }}
{{ messages|map(attribute='role')|join(', ') }} {{ messages|selectattr('role','equalto','user')|map(attribute='content')|list }} {{ messages|rejectattr('role','eq','user')|list|length }} {{ ['a','b']|map('upper')|list }} {{ [1,none,0,'x']|select|list }} {{ [1,2,3]|reject('odd')|list }}
{{ undefinedthing is defined }} {{ messages is iterable }} {{ 'a' is string }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ {} is mapping }} {{ 1.0 is float }} {{ none is none }} {{ messages[0].foo is undefined }} {{ 3 is divisibleby 3 }} {{ 'a' in 'abc' }} {{ 'z' not in ['a'] }} {{ 1 < 2 < 3 }} {{ not 1 == 2 }} {{ 'a' is in ['a'] }} {{ 4 is even }} {{ x is not defined and 1 }}
  {% if true %}  
   a  
  {% endif %}  
b {%- if true -%}   c   {%- endif +%}  
 d{# comment #}
  {#- x -#}  e
{% raw %}{{ not }} {% x %}{% endraw %}
{{ ' x '|trim }}|{{ ' x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,c'.split(',') }}|{{ 'a,b,c'.split(',', 1) }}|{{ 'a b  c'.split() }}|{{ 'a,b,c'.rsplit(',',1) }}|{{ 'aXb'.lower() }}|{{ 'hello world'.title() }}|{{ 'hello world'|title }}|{{ "it's a test-case"|title }}|{{ "it's".title() }}|{{ 'hELLO'.capitalize() }}|{{ 'abc'.startswith(('x','a')) }}|{{ 'abc'.replace('b','') }}|{{ 'aaa'.replace('a','b',2) }}|{{ 'abc'.find('c') }}|{{ 'a=b=c'.partition('=') }}|{{ '-'.join(['a','b']) }}
{{ 'a\\nb\\n\\nc'|indent(2) }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\nb'|indent(first=true) }}
{{ [3,1,2]|sort }} {{ ['b','A','c']|sort }} {{ ['b','A']|sort(case_sensitive=true) }} {{ [3,1,2]|sort(reverse=true) }} {{ {'b':1,'a':2}|dictsort }} {{ {'b':1,'a':2}|items|list }} {{ [1,1,2]|unique|list }} {{ [1,2,3]|sum }} {{ [1,2,3]|max }} {{ 'abc'|first }} {{ [1,2]|last }} {{ 'abc'|reverse }} {{ [1,2]|reverse|list }} {{ 3.7|int }} {{ '12'|int }} {{ 'x'|int(5) }} {{ 2.5|round }} {{ 3.14159|round(2) }} {{ -3|abs }} {{ 'a'|upper }} {{ nope|default('d') }} {{ ''|default('d', true) }} {{ '<a>&'|escape }} {{ 5|string + 'x' }} {{ 'x'|length }} {{ none|string }}
{{ 'a' ~ 1 ~ none ~ [1] }} {{ 'a' * 3 }} {{ [1] + [2] }} {{ (1,2) }} {{ 1 if false }} {{ 1 if false else 2 }} {{ 'x' if true else 'y' if true else 'z' }}
{% set a, b = (1, 2) %}{{ a }}{{ b }}{% for k, v in {'x':1,'y':2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in {'x':1}|items %}{{ k }}{{ v }}{% endfor %}
{% set t %}block {{ 1 }}{% endset %}{{ t }}{% set t | upper | trim %} abc {% endset %}{{ t }}{% filter upper %}abc{% endfilter %}
{% for x in range(5) %}{% if x == 3 %}{% break %}{% endif %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in range(3) %}{{ loop.first }}{{ loop.revindex }}{{ loop.previtem is defined }}{{ loop.nextitem }}{{ loop.cycle('a','b') }}{{ loop.changed(x // 2) }}{{ loop.depth }}{% for y in [1] %}{{ loop.depth0 }}{% endfor %}{% endfor %}
{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a': 1}.get('z', 9) }}{{ {'a':1}.a }}{{ {'items': 3}['items'] }}{{ {'x':{}}.x.y }}{{ messages[0]['content'][0:2] }}{{ messages[-1].role }}
{{ "a" "b" 'c' }}{{ "\\x41\\u00e9\\t|" }}{{ 1_000 }}{{ -(3) }}{{ - 3 + 4 }}{{ 2 * -3 }}{{ 2 + 3 * 4 ** 2 }}{{ (2 + 3) * 4 }}{{ 'a' 'b' ~ 'c' | upper }}{{ -1|abs }}{{ not true or true }}
{%- for m in messages %}{% set role = m.role %}{%- if loop.index0 is odd %}O{%- else %}E{%- endif %}{{- role }}{%- endfor %}
{{ messages[99] }}|{{ messages[0].nothing }}|{{ nope }}|{{ nope|length }}|{{ nope|list }}|{% for x in nope %}y{% endfor %}|{{ 'a' in nope }}
{{ dict(a=1, b=2) }}{{ 'x'.isdigit() }}{{ '12'.isdigit() }}{{ 'AB'.isupper() }}{{ 'a1'.isalnum() }}{{ 'a\\nb'.splitlines() }}{{ [1,2,1].count(1) }}{{ [1,2].index(2) }}{{ 'abcabc'.count('bc') }}{{ ' a'.lstrip() }}{{ 'a '.rstrip() }}|
{{ 1 == 1.0 }}{{ 'a' == 1 }}{{ [1,[2]] == [1,[2]] }}{{ {'a':1} == {'a':1} }}{{ true == 1 }}{{ none == false }}{{ nope == none }}{{ 'b' > 'a' }}
{{ raise_exception('boom ' ~ 1) }}
{{ nope.x }}
{{ 1 + 'a' }}
{{ 1 // 0 }}
{% if messages %}x
{{ strftime_now('%d %b %Y %H:%M %A %j %p') }}
{{ [1,2,3]|tojson }}{{ 'x'|tojson|string }}{{ (1,'a')|tojson }}{{ none|tojson }}{{ 1e16|tojson }}{{ 1.0|tojson }}
{{ messages|map(attribute='nope', default='dd')|list }}{{ [[1,2],[3]]|map('first')|list }}{{ [{'a':{'b':1}}]|map(attribute='a.b')|list }}""".split('\n')
T+=["  {% if true %}\n  x\n  {% endif %}\n","a\n   {%- if true %}\n b\n{% endif -%}\n\n c","{{ 'a' }}  {% if true %}y{% endif %}\n\n","x\r\ny\r\n","  {%+ if true %}q{% endif +%}\nz","{{ 'a' }}\n{{ 'b' }}\n","{% if true %}{% raw %}\n{{x}}\n{%- endraw %}\n{% endif %}", "a {# c #}\n b {#- c -#} \n d\n  {# e #}\n f"]
T += [
    # the forms that chat templates take
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}{{ '<|' + m['role'] + '|>' }}{% endfor %}",
    "{%- set ns = namespace(last=messages|length - 1) %}\n{%- for m in messages[::-1] %}\n    {%- set i = (messages|length - 1) - loop.index0 %}\n    {%- if m.role == 'assistant' and not (m.content.startswith('<t>') and m.content.endswith('</t>')) %}\n        {%- set ns.last = i %}\n    {%- endif %}\n{%- endfor %}\n{{- ns.last }}",
    "{% set thought = 'x<think>\\nhm\\n</think>\\n\\nyo' %}{{ thought.split('</think>')[-1].lstrip('\\n') }}|{{ thought.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}",
    "{% for m in messages %}\n    {%- if m.tool_calls is defined and m.tool_calls %}\n        {%- for c in m.tool_calls %}\n            {{- '{\"name\": \"' ~ c.name ~ '\", \"arguments\": ' ~ (c.arguments if c.arguments is string else c.arguments | tojson) ~ '}' }}\n        {%- endfor %}\n    {%- elif m.content is none or m.content is not string %}none\n    {%- else %}{{ m.content | trim }};\n    {%- endif %}\n{%- endfor %}",
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ rest | length }}{{ messages[1:] | map(attribute='role') | list }}",
    "{% if tools is defined and tools is not none %}T{% elif not tools %}no{% endif %}{% set tools = none %}{{ tools is none }}",
]

# constructs of the language, one each; also asked of llama.cpp's engine (TestConstructsAsLlamaServer)
CONSTRUCTS = {
    "for else": "{% for x in [] %}x{% else %}none{% endfor %}",
    "for if else": "{% for x in [1,2] if x > 2 %}x{% else %}none{% endfor %}",
    "for recursive": "{% for x in [{'n': 1, 'c': [{'n': 2, 'c': []}, {'n': 3, 'c': [{'n': 4, 'c': []}]}]}] recursive %}[{{ loop.depth }}:{{ x.n }}{{ loop(x.c) }}]{% endfor %}",
    "for unpacking": "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}-{{ b }};{% endfor %}",
    "loop variables": "{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "loop cycle": "{% for x in [1,2,3] %}{{ loop.cycle('odd', 'even') }};{% endfor %}",
    "loop changed": "{% for x in [1,1,2] %}{{ loop.changed(x) }};{% endfor %}",
    "loop neighbours": "{% for x in [1,2,3] %}{{ loop.previtem }}<{{ x }}<{{ loop.nextitem }};{% endfor %}",
    "break continue": "{% for x in range(9) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for x in [1,2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
    "set block": "{% set x %}a{{ 1 }}{% endset %}{{ x }}",
    "set block filtered": "{% set x | upper | replace('A', 'b') %}a{{ 1 }}{% endset %}{{ x }}",
    "set tuple": "{% set a, b = 1, 'x' %}{{ a }}{{ b }}",
    "macro": "{% macro f(a, b=2) %}({{ a }},{{ b }}){% endmacro %}{{ f(1) }}{{ f(1, b=3) }}{{ f(b=4, a=5) }}",
    "macro varargs": "{% macro f(a) %}{{ a }}|{{ varargs }}|{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, x=4) }}",
    "macro attributes": "{% macro f(a, b) %}{% endmacro %}{{ f.name }} {{ f.arguments }} {{ f.catch_kwargs }} {{ f.caller }}",
    "call": "{% macro f(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call f('b') %}x{% endcall %}",
    "call with parameters": "{% macro f(l) %}{% for x in l %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(x, i) f(['a', 'b']) %}{{ i }}{{ x }};{% endcall %}",
    "filter block": "{% filter upper | indent(2) %}a\nb{% endfilter %}",
    "with": "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}{% with %}{% set a = 3 %}{{ a }}{% endwith %}{{ a }}",
    "block": "{% set a = 1 %}{% block body %}x{{ a }}{% endblock %}{% block other scoped %}{{ a }}{% endblock other %}",
    "raw": "{% raw %}{{ x }}{% if %}{% endraw %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %};{% endfor %}",
    "autoescape": "{% autoescape false %}{{ '<' }}{% endautoescape %}",
    "comment": "a{# {{ x }} #}b",
    "inline if": "{{ 'a' if 1 else 'b' }}{{ 'a' if 0 }}{{ 'a' if 0 else 'b' if 0 else 'c' }}",
    "percent": "{{ '%s|%5d|%-5s|%05.1f|%x|%r|%%|%+d' % ('a', 42, 'b', 3.14159, 255, 'q', 7) }}",
    "percent one": "{{ 'n = %d' % 5 }}{{ '%s' % 'x' }}{{ '%s' % [1, 2] }}",
    "percent named": "{{ '%(a)s-%(b)03d' % {'a': 'x', 'b': 7} }}",
    "percent floats": "{{ '%g %g %g %e %.3g %G %#x %c %c %.2s|%5.1f|%-8.2e|' % (0.00001, 100000, 1e6, 12345.678, 3.14159, 1e-10, 255, 'z', 65, 'abc', 2.25, 1234.5) }}",
    "format filter": "{{ '%s, %s!' | format('a', 'b') }}{{ '%(x)s' | format(x=1) }}",
    "format method": "{{ '{} {0}'.format(1) if false else '{} {}'.format('a', 2) }}{{ '{0}{1}{0}'.format('x', 'y') }}{{ '{n}-{m[k]}'.format(n=1, m={'k': 2}) }}{{ '{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:.2f}|{:,}|{!r}|{{}}|{:x}|{:+}|{:%}|{:e}'.format('a', 'b', 'c', 'd', 42, 3.14159, 1234567, 'r', 255, 3, 0.5, 12345.678) }}",
    "batch": "{{ [1,2,3,4,5] | batch(2) | list }}{{ [1,2,3] | batch(2, 'x') | list }}",
    "slice": "{{ [1,2,3,4,5] | slice(3) | list }}{{ [1,2,3,4] | slice(3, 'x') | list }}",
    "groupby": "{% for g in [{'k': 'b', 'v': 1}, {'k': 'a', 'v': 2}, {'k': 'b', 'v': 3}] | groupby('k') %}{{ g.grouper }}:{{ g.list | map(attribute='v') | list }};{% endfor %}{% for k, l in [{'k': 1}, {'k': 1}] | groupby('k') %}{{ k }}{{ l | length }}{% endfor %}",
    "map with arguments": "{{ ['a,b', 'c'] | map('replace', ',', '-') | list }}{{ [1, 2] | map('string') | join('+') }}",
    "select with arguments": "{{ [1,2,3,4] | select('divisibleby', 2) | list }}{{ [1,2,3] | select('>', 1) | list }}{{ [1,2,3] | reject('in', [2]) | list }}",
    "selectattr": "{{ messages | selectattr('role', 'in', ['user']) | map(attribute='content') | list | length }}{{ messages | selectattr('tool_calls', 'defined') | list | length }}",
    "sort by attribute": "{{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}{{ ['b', 'C', 'a'] | sort(reverse=true) }}",
    "default with empty": "{{ x | default('d') }}{{ '' | default('d', true) }}{{ none | d('n', boolean=true) }}",
    "dictsort items": "{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}{{ {'b': 1, 'a': 2} | dictsort(by='value') }}{{ {'b': 1} | items | list }}",
    "tojson indent": "{{ {'b': [1, {'c': none}], 'a': 'é<'} | tojson(indent=2) }}",
    "join attribute": "{{ messages | join(',', attribute='role') }}",
    "center": "[{{ 'ab' | center(7) }}][{{ 'a'.center(6, '*') }}][{{ 'a'.ljust(3) }}][{{ 'a'.rjust(3, '.') }}][{{ '-7'.zfill(4) }}]",
    "truncate": "{{ 'one two three four' | truncate(10) }}|{{ 'one two three four' | truncate(10, true) }}|{{ 'one two three' | truncate(9, end='>', leeway=0) }}|{{ 'short' | truncate(3) }}",
    "wordcount": "{{ 'one two, three_four' | wordcount }}",
    "urlencode": "{{ 'a b/é&=~' | urlencode }}",
    "joiner": "{% set sep = joiner(', ') %}{% for x in [1,2,3] %}{{ sep() }}{{ x }}{% endfor %}",
    "cycler": "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "slicing": "{{ [1,2,3,4][1:3] }}{{ [1,2,3,4][::-1] }}{{ 'abcd'[:-1] }}{{ [1,2,3,4][::2] }}",
    "chained comparison": "{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 2 in [1, 2] and 3 not in [1, 2] }}",
    "tests": "{{ 1 is odd }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is sequence }}{{ none is none }}{{ 1 is number }}{{ x is undefined }}{{ 2 is divisibleby 2 }}{{ 'a' is in 'abc' }}{{ 1 is eq 1 }}{{ 3 is ge 2 }}{{ true is boolean }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 1 is sameas 1 }}",
    "string methods": "{{ 'aXb'.swapcase() }}{{ 'abc'.index('c') }}{{ 'a-b'.split('-')[1] }}{{ 'abab'.rindex('ab') }}{{ 'ß'.casefold() | length }}{{ '12'.isnumeric() }}{{ 'a b'.title() }}{{ 'x'.join(['a', 'b']) }}",
    "dict methods": "{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b', 2) }}{{ {'a': 1}.keys() | list }}{{ {'a': 1}.values() | list }}{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{{ {'a': 1}.copy() }}",
    "list repeated": "{{ [1, 2] * 2 }}{{ (1,) * 2 }}{{ 2 * [0] }}",
    "concatenation": "{{ 'a' ~ 1 ~ none ~ true }}{{ [1] + [2] }}{{ 'a' + 'b' }}",
    "white space": "a\n  {%- if true -%}  b  {%- endif -%}\n c\n{% if true %}\nd\n{% endif %}\ne",
}
T += CONSTRUCTS.values()
T.append("{{ strftime_now('%-d %B %Y, %e %-m %-H %D %R %h %u %w %C %V %n%t%% %c %X %x %r') }}")  # no construct: llama.cpp's clock cannot be stopped


class Generation(jinja2.ext.Extension):
    """The block that marks an assistant's words for trainers; its text is its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: datetime.datetime(2024, 7, 26, 15, 4, 5).strftime(f)
messages = [
    {"role": "user", "content": '  Hé <b> "q" '},
    {"role": "assistant", "content": "yo\n"},
    {"role": "user", "content": None, "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
]
cases = []
for t in T:
    case = {"template": t}
    for name, construct in CONSTRUCTS.items():
        if construct == t:
            case["construct"] = name
    try:
        case["text"] = env.from_string(t).render(messages=messages, bos_token="<s>")
    except Exception as e:
        case["error"] = type(e).__name__
    cases.append(case)
with open("jinja2.json", "w") as f:
    json.dump({"messages": messages, "cases": cases}, f, ensure_ascii=False, indent=1)
    f.write("\n")
