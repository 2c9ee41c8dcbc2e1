// Formulas as large as the text around them, and nothing that floats over the page.
MathJax.Hub.Config({messageStyle: 'none', showMathMenu: false, SVG: {scale: 88, linebreaks: {automatic: false}}});
