"""The style sheet of a report. Colours are variables, so that dark mode only sets these."""

_LIGHT = """--back:#fdfdfc;--text:#1d2129;--soft:#5c6470;--rule:#dfe2e7;--panel:#f4f5f7;--right:#2f7d5b;--wrong:#c2452d;
--on:#fff;
--c0:#2563b0;--c1:#c05a12;--c2:#2f7d5b;--c3:#8a3fa8;--c4:#a08400;--c5:#0b8793;--c6:#c2336f;--c7:#5c6470;color-scheme:light;"""
_DARK = """--back:#15181d;--text:#e4e7ec;--soft:#9aa3b0;--rule:#343a44;--panel:#1e222a;--right:#2f8660;--wrong:#c24f31;
--on:#fff;
--c0:#6ba6f0;--c1:#f0964f;--c2:#5fc494;--c3:#c48be0;--c4:#d9bd45;--c5:#4cc3cf;--c6:#f07fae;--c7:#9aa3b0;color-scheme:dark;"""
_LINES = "".join(f".c{i}{{--own:var(--c{i})}}" for i in range(8))
STYLE = f"""
:root{{{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:1080px;padding:1.5rem 1rem 4rem;background:var(--back);color:var(--text);
font:15px/1.5 system-ui,sans-serif;overflow-wrap:break-word}}
h1{{font-size:1.6rem;margin:0}}h2{{font-size:1.2rem;margin:0 0 .3rem}}h3{{font-size:1rem;margin:1.2rem 0 .4rem}}
p{{margin:.3rem 0}}.about{{color:var(--soft);font-size:.9rem}}
nav ul{{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1rem;padding:.5rem 0;margin:.5rem 0;
border-block:1px solid var(--rule)}}
a{{color:var(--c0)}}:focus-visible{{outline:2px solid var(--c0);outline-offset:2px}}
section{{margin:2.2rem 0}}
.grid{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1rem}}
figure{{margin:.5rem 0;min-width:0}}figcaption{{font-weight:600;font-size:.92rem}}
svg{{width:100%;height:auto;display:block}}svg.square{{max-width:320px}}
line.level{{stroke:var(--rule)}}.tick{{fill:var(--soft);font-size:12px}}.middle{{text-anchor:middle}}.end{{text-anchor:end}}
polyline{{fill:none;stroke:var(--own);stroke-width:2;stroke-linejoin:round}}
polyline.faint{{stroke-width:1;opacity:.35}}polyline.diagonal{{stroke:var(--soft);stroke-dasharray:4 4;stroke-width:1}}
circle{{fill:var(--own)}}circle.dim{{opacity:.5}}rect{{fill:var(--own)}}
{_LINES}
.legend{{list-style:none;display:flex;flex-wrap:wrap;gap:.1rem 1rem;margin:.2rem 0;padding:0;font-size:.85rem}}
.key{{display:inline-block;width:1rem;height:.25rem;margin-right:.4rem;vertical-align:middle;background:var(--own)}}
.scroll{{overflow:auto;max-height:32rem;border:1px solid var(--rule);border-radius:4px;margin:.5rem 0;width:fit-content;
max-width:100%}}.scroll:has(.matrix){{max-height:none}}
table{{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}}
th,td{{padding:.22rem .7rem;text-align:left;border-bottom:1px solid var(--rule);font-weight:400;vertical-align:top}}
tbody tr:last-child>*{{border-bottom:0}}
thead th{{position:sticky;top:0;background:var(--panel);font-weight:600;z-index:1}}
.number{{text-align:right}}td{{max-width:34rem}}
.matrix td{{text-align:center;padding:.15rem .3rem;min-width:2.2rem;border:1px solid var(--rule)}}
.matrix td.none{{color:var(--soft);opacity:.6}}
.matrix thead td{{background:var(--panel);position:sticky;top:0;left:0;z-index:2}}
.matrix tbody th{{position:sticky;left:0;background:var(--panel);max-width:17rem;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap;text-align:right}}
.matrix thead th{{vertical-align:bottom;padding:.3rem .1rem}}
.matrix thead span{{writing-mode:vertical-rl;transform:rotate(180deg);max-height:11rem;overflow:hidden;
text-overflow:ellipsis;
white-space:nowrap;display:inline-block;font-weight:400}}
.matrix .right{{background:color-mix(in srgb,var(--right) calc(var(--share)*100%),transparent)}}
.matrix .wrong{{background:color-mix(in srgb,var(--wrong) calc(var(--share)*100%),transparent)}}
.matrix .strong{{color:var(--on)}}
ol{{padding-left:2rem}}.error{{margin:.6rem 0;padding:.2rem 0 .5rem;border-bottom:1px solid var(--rule)}}
.error .place{{float:right;margin-left:1rem}}.text{{white-space:pre-wrap}}.context{{font-size:.9rem;color:var(--soft)}}
mark{{color:inherit;border-radius:3px;padding:0 .2em;background:color-mix(in srgb,var(--own) 22%,transparent)}}
mark.right{{--own:var(--right)}}mark.wrong{{--own:var(--wrong)}}mark small{{opacity:.85}}
.word{{border-radius:2px}}.word.wrong.much{{text-decoration:underline}}
.word.right{{background:color-mix(in srgb,var(--right) calc(var(--share)*70%),transparent)}}
.word.wrong{{background:color-mix(in srgb,var(--wrong) calc(var(--share)*70%),transparent)}}
pre{{background:var(--panel);border:1px solid var(--rule);border-radius:4px;padding:.7rem;overflow:auto;max-height:30rem;
font-size:.82rem;line-height:1.4}}summary{{cursor:pointer;margin:.5rem 0}}
@media print{{.scroll,pre{{max-height:none;overflow:visible}}nav{{display:none}}}}
""".strip()
