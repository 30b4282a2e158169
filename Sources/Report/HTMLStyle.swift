/// The style of `report.html`: light and dark, for a screen of any width and for paper.
///
/// Colours of series are Okabe and Ito's, darkened or lightened until they stand out from the paper.
enum HTMLStyle {
  private static let light = """
    :root{--ink:#1d2329;--paper:#fff;--raised:#f5f7f9;--faint:#5b6670;--line:#dde2e7;
    --good:#00694f;--bad:#b3261e;--unsure:#7a5200;
    --c0:#0065a8;--c1:#c24e00;--c2:#00785a;--c3:#a3447f;--c4:#7a6a00;--c5:#4a5560}
    """

  private static let dark = """
    :root{--ink:#e6e9ec;--paper:#14181c;--raised:#1c2228;--faint:#9aa5af;--line:#333b43;
    --good:#4fc9a4;--bad:#ff9488;--unsure:#e5b94a;
    --c0:#62b5f0;--c1:#f5944d;--c2:#3cc79f;--c3:#e08bbd;--c4:#d9c84a;--c5:#aab4bd}
    """

  static let text = """
    \(light)
    @media(prefers-color-scheme:dark){\(dark)}
    *{box-sizing:border-box}
    body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
    main{max-width:1200px;margin:0 auto;padding:1.25rem 1.5rem 4rem}
    h1{font-size:1.8rem;line-height:1.2;letter-spacing:-.015em;margin:.3rem 0 .5rem;text-wrap:balance}
    h2{font-size:1.35rem;line-height:1.3;margin:3rem 0 1rem}
    h3{font-size:1.1rem;line-height:1.3;margin:0 0 .6rem}
    p{margin:.4rem 0;max-width:80ch;overflow-wrap:break-word;text-wrap:pretty}
    .run{color:var(--faint);font-size:.85rem;margin:0}
    .lead{font-size:1rem;max-width:125ch}
    .note{color:var(--faint);font-size:.85rem;max-width:110ch}
    .cards{display:grid;grid-template-columns:1fr 1fr;gap:1rem;margin:1rem 0}
    .card{background:var(--raised);border-radius:8px;padding:.8rem 1rem;min-width:0;font-size:.92rem}
    .card h2{font-size:1rem;margin:0 0 .3rem}.card p{margin:.3rem 0}
    .badge{display:inline-block;border:1px solid var(--line);border-radius:99px;background:var(--paper);
    padding:.05rem .6rem;margin:.15rem .3rem .15rem 0;font-size:.85rem;white-space:nowrap}
    .pair{display:grid;grid-template-columns:1fr 1fr;gap:2rem;margin:-.4rem 0 1rem}.pair>*{min-width:0}
    .pair>:only-child{grid-column:1/-1}.pair table{font-size:.85rem}.pair td,.pair th{padding:.15rem .5rem .15rem 0}.pair td:first-child{white-space:nowrap}
    .good{color:var(--good)}.bad{color:var(--bad)}.unsure{color:var(--unsure)}
    td.good,td.bad,td.unsure{font-weight:600}
    .good::before{content:"✓\\a0"}.bad::before{content:"✗\\a0"}.unsure::before{content:"?\\a0"}
    .scroll{overflow-x:auto;margin:.8rem 0}
    table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.88rem}
    caption{text-align:left;font-weight:600;padding:.3rem 0;font-size:.95rem}
    th,td{padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
    th{font-weight:500;color:var(--faint)}.number{text-align:right;white-space:nowrap}th.number{white-space:normal}
    td:last-child,th:last-child{padding-right:0}
    figure{display:grid;grid-template-columns:minmax(0,640px) minmax(0,1fr);gap:2.5rem;margin:0;padding:1.75rem 0;
    border-top:1px solid var(--line)}
    figcaption{font-size:.92rem}
    .legend{list-style:none;padding:0;margin:0 0 .8rem}.legend li{margin:.1rem 0;overflow-wrap:anywhere}
    .key{width:28px;height:16px;margin-right:.5rem;vertical-align:-3px}
    dl{margin:1rem 0 0;font-size:.85rem;color:var(--faint);display:grid;grid-template-columns:auto 1fr;gap:.2rem .8rem}
    dt{font-weight:600;color:var(--ink)}dd{margin:0}
    .plot{display:block;width:100%;height:auto;margin-bottom:1rem}
    .plot text{fill:var(--ink);font-size:12.5px;font-variant-numeric:tabular-nums}
    .plot .tick{fill:var(--faint)}.plot .axis{fill:var(--faint);font-size:12.5px}
    .plot .row{font-weight:600}.plot .wide{font-size:11.5px;fill:var(--faint)}
    .grid{stroke:var(--line)}.reference{stroke:var(--ink);stroke-width:1.5}
    .s0{--c:var(--c0)}.s1{--c:var(--c1)}.s2{--c:var(--c2)}.s3{--c:var(--c3)}.s4{--c:var(--c4)}.s5{--c:var(--c5)}
    .doc{--c:var(--ink)}
    .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}.dashed .line{stroke-dasharray:5 4}
    .mark{fill:var(--c);stroke:var(--paper)}.hollow{fill:var(--paper);stroke:var(--c);stroke-width:1.8}
    .whisker{stroke:var(--c);stroke-width:1.5;opacity:.55}.doc .whisker{stroke-width:3}
    .bar rect,.key rect{fill:var(--c)}.plot .inside{fill:var(--paper);font-weight:600}
    details{border-top:1px solid var(--line);padding:.6rem 0}summary{cursor:pointer;font-weight:600}
    ul{padding-left:1.2rem}li{margin:.25rem 0;overflow-wrap:break-word}
    pre{background:var(--raised);border-radius:6px;padding:.6rem .8rem;overflow-x:auto;font-size:.85rem}
    .print{display:none}
    @media(max-width:1000px){.cards,.pair,figure{grid-template-columns:minmax(0,1fr)}.pair{gap:.5rem}figure{gap:.8rem}}
    @media(max-width:600px){main{padding:1rem 1rem 3rem}h1{font-size:1.45rem}.lead{font-size:.92rem;line-height:1.4}.cards{gap:.6rem}
    .card{padding:.6rem .8rem;font-size:.88rem}.card p{line-height:1.4}
    .plot text,.plot .axis{font-size:20px}.plot .inside{font-size:16px}.plot .wide{display:none}
    .pair .number,.pair td:first-child{white-space:normal}
    td,th{padding-right:.5rem}dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}}
    @media print{\(light)
    body{font-size:10pt}main{max-width:none;padding:0}.print{display:block}
    figure,tr,.card{break-inside:avoid}h2,h3,caption{break-after:avoid}.scroll{overflow:visible}
    figure{grid-template-columns:60% 1fr;gap:1rem}details::details-content{content-visibility:visible;display:block}}
    """
}
