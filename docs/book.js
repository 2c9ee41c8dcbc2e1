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
