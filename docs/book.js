// Links to the previous and the next page. The book is what stands first in the navigation tree, before the reference.
const reference = /^(namespaces|annotated|files|topics|modules|concepts|pages|usergroup)/;

function bookPages() {
  if (!window.NAVTREE) return [];
  const [title, file, children] = NAVTREE[0];
  const pages = children.filter(([, target]) => typeof target === 'string' && !target.includes('#') && !reference.test(target));
  return [[title, file], ...pages].map(([name, target]) => ({name, file: target}));
}

function bookLink(page, className, text) {
  const link = document.createElement('a');
  link.href = page.file;
  link.className = className;
  link.textContent = text;
  return link;
}

document.addEventListener('DOMContentLoaded', () => {
  const here = location.pathname.split('/').pop() || 'index.html';
  const pages = bookPages();
  const i = pages.findIndex((page) => page.file === here);
  if (i < 0) return;
  const nav = document.createElement('nav');
  nav.className = 'book-nav';
  if (i > 0) nav.append(bookLink(pages[i - 1], 'prev', '← ' + pages[i - 1].name));
  if (i + 1 < pages.length) nav.append(bookLink(pages[i + 1], 'next', pages[i + 1].name + ' →'));
  (document.querySelector('.contents .textblock') || document.querySelector('.contents')).append(nav);
});

// ---- the search box: sections of the book first, then symbols ----

/// Every word of the query begins a word of the place; a whole word counts twice as much. docs/check reads this rule too.
function bookPlaces(query) {
  const terms = query.toLowerCase().match(/[a-z0-9]+|[\u4e00-\u9fff]+/g) || [];
  let total = null;
  for (const term of terms) {
    const found = new Map();
    for (const [word, places] of Object.entries(bookSearch.words)) {
      if (!word.startsWith(term)) continue;
      const factor = word === term ? 1 : 0.5;
      for (const [place, score] of places) found.set(place, Math.max(found.get(place) || 0, score * factor));
    }
    if (total === null) total = found;
    else total = new Map([...total].filter(([place]) => found.has(place)).map(([place, score]) => [place, score + found.get(place)]));
  }
  const isSymbol = (place) => bookSearch.places[place][0].startsWith('kv::');
  return [...(total || [])].sort(([a, x], [b, y]) => isSymbol(a) - isSymbol(b) || y - x || a - b).map(([place]) => bookSearch.places[place]);
}

document.addEventListener('DOMContentLoaded', () => {
  if (typeof bookSearch === 'undefined') return;
  const box = document.createElement('div');
  box.className = 'book-search';
  box.innerHTML = '<input type="search" placeholder="Search the book" aria-label="Search the book"><ol hidden></ol>';
  const [input, list] = box.children;
  const show = () => {
    const places = bookPlaces(input.value).slice(0, 12);
    list.replaceChildren(...places.map(([name, file]) => {
      const item = document.createElement('li');
      item.append(bookLink({file}, '', name));
      return item;
    }));
    list.hidden = places.length === 0;
  };
  input.addEventListener('input', show);
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && list.firstChild) location.href = list.querySelector('a').href;
    if (event.key === 'ArrowDown' && list.firstChild) list.querySelector('a').focus();
  });
  box.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') list.hidden = true;
  });
  document.addEventListener('click', (event) => {
    if (!box.contains(event.target)) list.hidden = true;
  });
  document.getElementById('titlearea').append(box);
  box.append(...darkSwitch());
});

// ---- the dark switch ----

/// The theme's, if the theme is there. The theme itself would put it beside Doxygen's search box, which this book has not.
function darkSwitch() {
  if (!customElements.get('doxygen-awesome-dark-mode-toggle')) return [];
  const toggle = document.createElement('doxygen-awesome-dark-mode-toggle');
  const label = 'Light or dark';
  Object.assign(toggle, {title: label, tabIndex: 0, role: 'button', ariaLabel: label});
  toggle.updateIcon();
  toggle.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' || event.key === ' ') event.preventDefault(), toggle.click();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => toggle.updateIcon());
  document.addEventListener('visibilitychange', () => toggle.updateIcon());
  return [toggle];
}
