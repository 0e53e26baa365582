"""Style and script of the report. They are part of the page, and the page's policy allows these bytes alone."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--page:#fbfbf9;--ink:#1d2226;--soft:#5d666e;--rule:#dfe2e0;--card:#ffffff;
--truth:#8a4fbf;--critical:#c23b3b;--warning:#c98a1b;--trigger:#1f7a5c;
--c0:#2563a8;--c1:#b4532a;--c2:#2f7d4f;--c3:#7a4da0;--c4:#8a6d1d;--c5:#4d6572;
--h0:#eef2f1;--h1:#dfe9ec;--h2:#c6dbe4;--h3:#a4c6d8;--h4:#7fadc7;--h5:#f0b37e;--h6:#e68a52;--h7:#d2603a;--h8:#a83a2b}
@media (prefers-color-scheme:dark){:root{--page:#15181b;--ink:#e6e9ea;--soft:#9aa4ab;--rule:#30363b;--card:#1c2024;
--truth:#c39af0;--critical:#f07a72;--warning:#e5b454;--trigger:#5cc9a0;
--c0:#74b0ee;--c1:#e8976b;--c2:#7fcf9d;--c3:#c39be6;--c4:#d6bb62;--c5:#a3b7c2;
--h0:#20262a;--h1:#22303a;--h2:#263f4e;--h3:#2c5267;--h4:#356a85;--h5:#8a5a2c;--h6:#b06a33;--h7:#d4713f;--h8:#f08a5d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:24px 20px 64px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 8px;border-top:1px solid var(--rule);padding-top:24px}
h3{font-size:15px;margin:24px 0 6px}
p{margin:4px 0}.soft{color:var(--soft)}
svg{display:block;width:100%;height:auto;margin:10px 0;background:var(--card);border:1px solid var(--rule);
border-radius:6px}
svg text{font:11px system-ui,sans-serif;fill:var(--ink)}
svg .title{font-weight:600;font-size:12px}svg .tick{fill:var(--soft)}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}
.curve{fill:none;stroke-width:1.6;stroke-linejoin:round}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
.truth{stroke:var(--truth);stroke-width:1.5;stroke-dasharray:4 3}.truth-span{fill:var(--truth);opacity:.12}
.incident{opacity:.85}.critical{fill:var(--critical)}.warning{fill:var(--warning)}
.incident.open{stroke:var(--ink);stroke-width:1;stroke-dasharray:2 2}
.trigger{fill:var(--trigger)}
.h0{fill:var(--h0)}.h1{fill:var(--h1)}.h2{fill:var(--h2)}.h3{fill:var(--h3)}.h4{fill:var(--h4)}
.h5{fill:var(--h5)}.h6{fill:var(--h6)}.h7{fill:var(--h7)}.h8{fill:var(--h8)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;background:var(--card)}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:600;white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
th[data-sort]{cursor:pointer}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:10px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:8px 14px;min-width:110px}
.tile b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:12px}
.key{display:flex;flex-wrap:wrap;gap:16px;font-size:12px;color:var(--soft);margin:6px 0}
.key i{display:inline-block;width:14px;height:10px;margin-right:5px}
.key .k-truth{border-left:2px dashed var(--truth);width:4px}.key .k-critical{background:var(--critical)}
.key .k-warning{background:var(--warning)}.key .k-trigger{background:var(--trigger)}
.key .k-under{background:var(--h4)}.key .k-over{background:var(--h7)}
details{margin:16px 0}summary{cursor:pointer}
pre{background:var(--card);border:1px solid var(--rule);border-radius:6px;padding:12px;overflow:auto;font-size:12px}
"""

SCRIPT: Final = """
for (const head of document.querySelectorAll('th[data-sort]')) head.addEventListener('click', () => {
  const body = head.closest('table').tBodies[0], place = head.cellIndex, down = head.dataset.sort === 'down'
  head.dataset.sort = down ? 'up' : 'down'
  const key = row => row.cells[place].dataset.value ?? row.cells[place].textContent
  const order = (a, b) => { const x = key(a), y = key(b), d = x - y; return Number.isNaN(d) ? x.localeCompare(y) : d }
  const rows = [...body.rows].sort(order)
  body.append(...(down ? rows.reverse() : rows))
})
document.documentElement.dataset.ready = 'yes'
"""
